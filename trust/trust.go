// Package trust answers one question: what makes a client on this host believe
// a registry's certificate? It knows the folders and files that docker,
// containerd, podman, buildkit, kubernetes and the system look into, reads
// them, and changes nothing.
package trust
