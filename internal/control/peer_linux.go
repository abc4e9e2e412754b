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
	"unsafe"

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

// A peer is who was at the other end when it connected.
type peer struct {
	pid      int32
	uid, gid uint32
	groups   []uint32 // beyond gid
	asked    bool     // the kernel has said which groups
}

// withPeer asks the kernel who is at the other end of c.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	who, err := peerOf(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, who)
}

func peerOf(c net.Conn) (*peer, error) {
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
	who := new(peer)
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); cerr != nil {
			return
		}
		who.pid, who.uid, who.gid = cred.Pid, cred.Uid, cred.Gid
		who.groups, who.asked = groupsOf(fd)
	}); err != nil {
		return nil, err
	}
	return who, cerr
}

// usualGroups is for how many groups of a process there is room at the first try.
const usualGroups = 32

// groupsOf asks which groups the process at the other end of a socket had besides its own (SO_PEERGROUPS, since Linux
// 4.13; the kernel has 65,536 of them at the most). Those are what its file permissions go by, whatever the group
// database says: a service manager may give a process others.
func groupsOf(fd uintptr) (groups []uint32, ok bool) {
	groups = make([]uint32, usualGroups)
	for range 2 { // too little room is answered with how much there must be
		size := uint32(len(groups) * int(unsafe.Sizeof(groups[0])))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // nobody else has a call for it
		n := int(size) / int(unsafe.Sizeof(groups[0]))
		if errno == 0 {
			return groups[:min(n, len(groups))], true
		}
		if errno != unix.ERANGE {
			return nil, false
		}
		groups = make([]uint32, n)
	}
	return nil, false
}

// allow returns an error unless the peer of a request may ask.
func (p peers) allow(ctx context.Context) error {
	who, ok := ctx.Value(peerKey{}).(*peer)
	if !ok {
		return errors.New("the kernel does not say who asks")
	}
	if who.uid == 0 || who.uid == p.own || who.gid == p.group || who.in(p.group) {
		return nil
	}
	return fmt.Errorf("user %d is neither root nor in the socket's group (%d)", who.uid, p.group)
}

// operatorOf is who asks, for the audit.
func operatorOf(ctx context.Context) string {
	who, ok := ctx.Value(peerKey{}).(*peer)
	if !ok {
		return ""
	}
	id := fmt.Sprintf("uid %d, pid %d", who.uid, who.pid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(who.uid), 10)); err == nil {
		return u.Username + " (" + id + ")"
	}
	return id
}

// in tells whether a peer is in a group beyond the one that it runs with. The group
// database answers where the kernel does not.
func (who *peer) in(group uint32) bool {
	if who.asked {
		return slices.Contains(who.groups, group)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(who.uid), 10))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.FormatUint(uint64(group), 10))
}
