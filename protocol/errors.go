package protocol

// Error is a reason to refuse a message or an identity. It is a constant, so
// that refusing does not allocate. It compares with == and errors.Is and can
// index an array of NumErrors counters.
type Error uint8

// The reasons. ErrNeedMore is not a refusal: the bytes so far are well-formed
// but too few.
const (
	errNone        Error = iota
	ErrNeedMore          // more bytes are needed
	ErrMalformed         // lengths, version, reserved bytes or flags do not match the format
	ErrTooLong           // longer than the receiver accepts, or too long to encode
	ErrSealed            // the AEAD did not open: another secret, another port, or altered
	ErrPort              // opened, but sealed for another port
	ErrClientHash        // opened, but sealed for another client id
	ErrContent           // opened, but the content does not parse or contradicts the header
	ErrNoBucket          // no configured bucket is large enough for the message
	ErrCipher            // the platform refuses the cipher (FIPS 140-only mode)
	ErrShortSecret       // the secret has fewer than MinSecret bytes
	ErrClientID          // the client id is empty, too long, not UTF-8 or has a NUL
	ErrMethod            // not the name of a method
	// NumErrors is the size of an array indexed by an Error.
	NumErrors int = iota
)

// Error describes the reason, without any bytes of the message.
func (e Error) Error() string {
	switch e {
	case ErrNeedMore:
		return "more bytes needed"
	case ErrMalformed:
		return "malformed message"
	case ErrTooLong:
		return "message too long"
	case ErrSealed:
		return "message does not open with this client's secret"
	case ErrPort:
		return "message is sealed for another port"
	case ErrClientHash:
		return "message is sealed for another client id"
	case ErrContent:
		return "message content is inconsistent"
	case ErrNoBucket:
		return "no bucket is large enough for the message"
	case ErrCipher:
		return "XChaCha20-Poly1305 is not allowed on this platform"
	case ErrShortSecret:
		return "secret is shorter than 16 bytes"
	case ErrClientID:
		return "client id must be 1 to 65535 bytes of UTF-8 without NUL"
	case ErrMethod:
		return "unknown method"
	default:
		return "unknown error"
	}
}

// Label returns a short constant name, suitable as a metric label.
func (e Error) Label() string {
	switch e {
	case errNone:
		return "ok"
	case ErrNeedMore:
		return "need-more"
	case ErrMalformed:
		return "malformed"
	case ErrTooLong:
		return "too-long"
	case ErrSealed:
		return "sealed"
	case ErrPort:
		return "port"
	case ErrClientHash:
		return "client-hash"
	case ErrContent:
		return "content"
	case ErrNoBucket:
		return "no-bucket"
	case ErrCipher:
		return "cipher"
	case ErrShortSecret:
		return "short-secret"
	case ErrClientID:
		return "client-id"
	case ErrMethod:
		return "method"
	default:
		return "unknown"
	}
}
