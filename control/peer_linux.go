package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// peers says which users may speak to the gateway: root, its own, and the members
// of the group that the socket belongs to.
type peers struct {
	own   uint32
	group uint32
}

func peersOf(socket string) (peers, error) {
	info, err := os.Stat(socket)
	if err != nil {
		return peers{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return peers{}, errors.New("the system does not say whose the socket is")
	}
	return peers{own: uint32(os.Geteuid()), group: st.Gid}, nil
}

// peerKey is where a connection's context has its peer.
type peerKey struct{}

// withPeer asks the kernel who is at the other end of c.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	cred, err := credentials(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

func credentials(c net.Conn) (*unix.Ucred, error) {
	if limited, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = limited.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, cerr
}

// allow returns an error unless the peer of a request may ask.
func (p peers) allow(ctx context.Context) error {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return errors.New("the kernel does not say who asks")
	}
	if cred.Uid == 0 || cred.Uid == p.own || cred.Gid == p.group || member(cred.Uid, p.group) {
		return nil
	}
	return fmt.Errorf("user %d is neither root nor in the socket's group (%d)", cred.Uid, p.group)
}

// operatorOf is who asks, for the audit.
func operatorOf(ctx context.Context) string {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return ""
	}
	who := fmt.Sprintf("uid %d, pid %d", cred.Uid, cred.Pid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10)); err == nil {
		return u.Username + " (" + who + ")"
	}
	return who
}

// member tells whether a user is in a group beyond the one that it runs with.
func member(uid, group uint32) bool {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.FormatUint(uint64(group), 10))
}
