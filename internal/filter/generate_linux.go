package filter

// The command compiles bpf/ to program_bpfel.o and program_bpfeb.o, for the two
// byte orders, and writes the Go files that embed them. program.sha256 records
// sources, flags, objects and compiler; tests compare it with the files. CPU v2
// has registers of 64 bits only, so that the compiler saves whole words on the
// stack (struct frame says why that counts). The directories hold the kernel's
// headers on Debian.

//go:generate go tool bpf2go -tags linux -no-global-types -type control_words -type service_key -type accepts -type reason -type key_kind -cflags "-mcpu=v2 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" program bpf/filter.c
//go:generate sh -c "{ clang --version | sed -n '1s/^/# /p'; LC_ALL=C sha256sum bpf/*.[ch] generate_linux.go program_bpf*.o; } >program.sha256"
