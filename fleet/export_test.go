package fleet

// Abandon ends an instance without goodbye, as a power cut does.
func (f *Fleet) Abandon() {
	f.cancel()
	f.work.Wait()
	f.close.Do(func() {})
}

// Keys are the names of the keys in Redis, and of the channel.
func (f *Fleet) Keys() (head, alive, texts, revoked, revokedAt, overrides, channel string) {
	k := f.keys
	return k.head, k.alive, k.texts, k.revoked, k.revokedAt, k.overrides, k.channel
}

// Known is how many overrides and ends are known.
func (f *Fleet) Known() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.overrides)
}

// MaxValue is the longest value that is read.
const MaxValue = maxValue
