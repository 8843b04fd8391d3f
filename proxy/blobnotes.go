package proxy

import (
	"context"
	"crypto/rand"
	"time"
)

// What instances tell each other of an upstream with shared_blobs.
//
// Of a blob that came into a repository through one of them there is one note.
// As long as no manifest names the blob, the note is the right to it. From then
// on it says which manifest did: that is no right but a place to look, and the
// upstream is asked whether it is still there. So what is deleted is gone for
// all of them.
//
// A deleted manifest is told of by a note, too: what the others know from
// manifests is older than that and forgotten.

// deletionsEvery is how often an instance looks whether another one deleted
// something of a repository.
const deletionsEvery = time.Second

// place is what instances call the upstream among themselves, whatever its name
// is in the file of each.
func (u *Upstream) place() string { return u.scheme + "://" + u.hostname + ":" + u.port + u.prefix }

func (u *Upstream) blobNote(name, blob string) string {
	return about("blob", u.place(), name, blob)
}

func (u *Upstream) deletionNote(name string) string {
	return about("deletion", u.place(), name)
}

// uploaded keeps that a blob came into the request's repository, here and for
// the other instances: the client may ask them next.
func (x *exchange) uploaded(blob string) {
	shared := false
	if x.h.notes.kept() {
		_, err := x.h.notes.write(context.WithoutCancel(x.r.Context()), Note{Key: x.up.blobNote(x.name, blob), Left: uploadFor})
		shared = err == nil
	}
	x.up.blobs.uploaded(x.name, blob, shared, x.start)
}

// tellNamed is told when a manifest was pushed that names blobs: what was a
// right to one of them is now a hint at the manifest. manifest is "" if nobody
// knows its digest.
func (x *exchange) tellNamed(manifest string, blobs []string) {
	if !x.h.notes.kept() {
		return
	}
	list := make([]Note, len(blobs))
	for i, b := range blobs {
		list[i] = Note{Key: x.up.blobNote(x.name, b), Text: manifest, Left: knownFor, If: IfPresent}
		if manifest == "" {
			list[i].Left = 0
		}
	}
	x.h.notes.owe(context.WithoutCancel(x.r.Context()), list...)
}

func (x *exchange) tellDeleted() {
	x.h.notes.owe(context.WithoutCancel(x.r.Context()), Note{Key: x.up.deletionNote(x.name), Text: rand.Text(), Left: knownFor})
}

// agree makes what is known here of blobs that came into a repository what all
// instances know. Where they cannot be asked, it is left as it is.
func (x *exchange) agree(r *repoBlobs, blobs []string) {
	if !x.h.notes.kept() {
		return
	}
	k := x.up.blobs
	var unnamed, keys []string
	for _, b := range blobs {
		if !k.hasNamed(r, keyOf(b), x.start) {
			unnamed, keys = append(unnamed, b), append(keys, x.up.blobNote(r.name, b))
		}
	}
	if len(unnamed) == 0 {
		return
	}
	if found, err := x.h.notes.read(x.r.Context(), keys...); err == nil {
		k.told(r, unnamed, found, x.start)
	}
}

// known is what is known of a repository, without what another instance has
// deleted since.
func (x *exchange) known(name string) *repoBlobs {
	k := x.up.blobs
	r := k.of(name)
	if !x.h.notes.kept() || !k.toAsk(r, x.start) {
		return r
	}
	found, err := x.h.notes.read(x.r.Context(), x.up.deletionNote(name))
	if err != nil || found[0].Left <= 0 {
		return r
	}
	return k.deletedBefore(name, found[0].Text, x.start)
}

// hasNamed reports whether a manifest that refers to the blob was read lately.
func (k *knownBlobs) hasNamed(r *repoBlobs, blob digestKey, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return r.named(blob, now.Unix())
}

// told keeps what notes say of blobs.
func (k *knownBlobs) told(r *repoBlobs, blobs []string, notes []Note, now time.Time) {
	for i, b := range blobs {
		n, key := notes[i], keyOf(b)
		hint := n.Left > 0 && isDigest(n.Text) && validDigest(n.Text) && !k.wasRead(r, n.Text, now)
		k.change(r, now, func() {
			switch {
			case n.Left > 0 && n.Text == "":
				r.arrive(key, arrival{now.Add(min(n.Left, uploadFor) - uploadFor).Unix(), true})
			case r.uploads[key].shared:
				delete(r.uploads, key)
			}
			if hint {
				r.later(now, n.Text)
			}
		})
	}
}

// toAsk reports whether it is time to ask what others have deleted, and takes
// note that this is done.
func (k *knownBlobs) toAsk(r *repoBlobs, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if within(r.asked, now, deletionsEvery) {
		return false
	}
	r.asked = now
	return true
}

// deletedBefore forgets what is older than a deletion, unless that is done, and
// gives what is known then.
func (k *knownBlobs) deletedBefore(name, deletion string, now time.Time) *repoBlobs {
	if r := k.of(name); r.deletion(k) != deletion {
		k.forget(name)
	}
	r := k.of(name)
	k.mu.Lock()
	defer k.mu.Unlock()
	r.deleted, r.asked = deletion, now
	return r
}

func (r *repoBlobs) deletion(k *knownBlobs) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return r.deleted
}
