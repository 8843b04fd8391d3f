package configs

// warnRefresh is about refresh tokens that nobody gets, or that another instance
// would not know. With credentials: passthrough nobody does: there is neither a
// file nor a directory then.
func (k *checker) warnRefresh() {
	const at = "token.refresh"
	switch {
	case !k.Token.Refresh:
	case k.Auth.Htpasswd == "" && !k.Auth.LDAP.Set():
		k.maybe(at, "nobody gets a refresh token: only users of auth.htpasswd and of auth.ldap do, as nobody else can be asked whether they are still there", "leave token.refresh out")
	case !k.Redis.Shared() && !k.Token.Create:
		k.maybe(at, "without redis each instance has refresh tokens of its own: a client that meets another one is told to log in again", "set redis, unless this instance is the only one; then token.key_file can be left out, too")
	}
}
