// Command postgres queries a hidden PostgreSQL server with pgx.
//
//	postgres -profile FILE -service postgres -user alice -database postgres [QUERY]
//
// The password is read like libpq does: from PGPASSWORD, or from ~/.pgpass,
// where the host is the service's name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/knockgw/knockgw/examples/internal/target"
)

// timeout is the time limit for connecting and the query.
const timeout = 20 * time.Second

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	which := target.Define("postgres")
	user := flag.String("user", "postgres", "the database's `user`")
	database := flag.String("database", "postgres", "the `name` of the database")
	flag.Parse()
	text := flag.Arg(0)
	if text == "" {
		text = "select version()"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := query(ctx, which, *user, *database, text); err != nil {
		log.Fatal("postgres: ", err)
	}
}

// query prints the rows of a query.
func query(ctx context.Context, which target.Flags, user, database, text string) (err error) {
	endpoint, err := which.Find()
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig("host=" + endpoint.Service.Name + " sslmode=prefer")
	if err != nil {
		return err
	}
	config.User, config.Database = user, database
	config.DialFunc = endpoint.Profile.DialContext
	// The profile resolves the name, not DNS.
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }

	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()

	rows, err := conn.Query(ctx, text)
	if err != nil {
		return err
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		fmt.Println(values...)
	}
	return rows.Err()
}
