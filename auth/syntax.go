package auth

// SyntaxError is a word of the configuration that cannot be read. Msg says
// what is wrong with it, Fix what to write instead and is empty if that cannot
// be known.
type SyntaxError struct{ Msg, Fix string }

func (e *SyntaxError) Error() string { return e.Msg }
