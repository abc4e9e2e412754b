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

// allowedPeers are the accounts with access: root, the gateway's own, and the
// members of the group of the socket.
type allowedPeers struct {
	own   uint32
	group uint32
}

func newAllowedPeers(socket string) (allowedPeers, error) {
	info, err := os.Stat(socket)
	if err != nil {
		return allowedPeers{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return allowedPeers{}, errors.New("the system does not report the owner of the socket")
	}
	return allowedPeers{own: uint32(os.Geteuid()), group: st.Gid}, nil
}

// peerKey is the key of the peer in the context of a connection.
type peerKey struct{}

// A peer has the credentials of a client at the time it connected.
type peer struct {
	pid         int32
	uid, gid    uint32
	groups      []uint32 // besides gid
	groupsKnown bool     // by the kernel
}

// withPeer adds the credentials of the peer of c to ctx.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	remote, err := peerOf(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, remote)
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

	remote := new(peer)
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); cerr != nil {
			return
		}
		remote.pid, remote.uid, remote.gid = cred.Pid, cred.Uid, cred.Gid
		remote.groups, remote.groupsKnown = groupsOf(fd)
	}); err != nil {
		return nil, err
	}
	return remote, cerr
}

// initialGroups is the number of groups that the first query has space for.
const initialGroups = 32

// groupsOf returns the supplementary groups that the peer of a socket had
// (SO_PEERGROUPS, since Linux 4.13; at most 65,536). File permissions depend on
// these, not on the group database: a service manager may set others.
func groupsOf(fd uintptr) (groups []uint32, ok bool) {
	groups = make([]uint32, initialGroups)
	for range 2 { // with too little space, the kernel returns the necessary size
		size := uint32(len(groups) * int(unsafe.Sizeof(groups[0])))
		//nolint:gosec // x/sys has no function for it
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
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

// allow returns an error unless the peer of a request has access.
func (p allowedPeers) allow(ctx context.Context) error {
	remote, ok := ctx.Value(peerKey{}).(*peer)
	if !ok {
		return errors.New("the credentials of the client are unknown")
	}
	if remote.uid == 0 || remote.uid == p.own || remote.gid == p.group || remote.inGroup(p.group) {
		return nil
	}
	return fmt.Errorf("user %d is neither root nor in the socket's group (%d)", remote.uid, p.group)
}

// operatorOf describes the peer of a request, for the audit.
func operatorOf(ctx context.Context) string {
	remote, ok := ctx.Value(peerKey{}).(*peer)
	if !ok {
		return ""
	}
	id := fmt.Sprintf("uid %d, pid %d", remote.uid, remote.pid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(remote.uid), 10)); err == nil {
		return u.Username + " (" + id + ")"
	}
	return id
}

// inGroup reports whether a peer is in a supplementary group. The group database
// decides if the kernel does not report the groups.
func (remote *peer) inGroup(group uint32) bool {
	if remote.groupsKnown {
		return slices.Contains(remote.groups, group)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(remote.uid), 10))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.FormatUint(uint64(group), 10))
}
