package filter

// The program in bpf/ becomes program_bpfel.o and program_bpfeb.o, for the two
// byte orders, and the Go files that embed them. program.sha256 says of which
// sources and by which compiler; a test compares it. (-mcpu=v3 needs Linux 5.1.
// The directories are where Debian has the kernel's headers.)

//go:generate go tool bpf2go -tags linux -no-global-types -type control_words -type service_key -type accepts -type reason -type key_kind -cflags "-mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" program bpf/filter.c
//go:generate sh -c "{ clang --version | sed -n '1s/^/# /p'; LC_ALL=C sha256sum bpf/*.[ch] generate_linux.go program_bpf*.o; } >program.sha256"
