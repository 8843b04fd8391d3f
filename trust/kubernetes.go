package trust

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

// kubernetes is a DaemonSet that keeps the files on every node, new ones too: for
// nodes that nobody can log in to.
func (p *Plan) kubernetes(ca string) {
	object := objectName(p.Host)
	manifest := strings.NewReplacer(
		"OBJECT", object,
		"HOST", p.Host.String(),
		"    CA\n", indent(ca, 4),
		"    HOSTS_TOML\n", indent(p.hostsTOML(), 4),
		"            SCRIPT\n", indent(nodeScript, 12),
	).Replace(daemonSet)
	p.Files = []File{{Path: object + ".yaml", Mode: world, Content: manifest}}
	p.Steps = []Step{
		{"With kubectl, as somebody who may write to the namespace kube-system:", "kubectl apply -f - <<'END'\n" + manifest + "END\n"},
		{"What it did on each node, and where containerd must be told of the folder:", "kubectl -n kube-system rollout status daemonset/" + object + "\nkubectl -n kube-system logs --prefix -l app=" + object + "\n"},
	}
	p.Restart = "CRI-O: none. containerd: none where its configuration names the folder (config_path), as managed clusters mostly have it. Where the logs say that it does not, each such node takes it once, with a restart: --for containerd prints what."
	p.note("The image busybox must be one that the nodes can pull already. Any with sh, cmp, cp and mv will do.")
	p.note("The DaemonSet runs as root and writes to /etc/containerd/certs.d and /etc/containers/certs.d of the nodes, to nothing else. Where a policy forbids hostPath in kube-system it needs an exception.")
	p.note("When the CA changes, apply again: the nodes have it a few minutes later. Deleting the DaemonSet leaves the files.")
	p.note("Images of nodes that are read-only (Talos, Bottlerocket) take the CA in their own configuration. OpenShift has additionalTrustedCA in image.config.openshift.io/cluster.")
	p.note("Trust is no login: pods with private images need an imagePullSecret besides (kubectl create secret docker-registry).")
}

var notInLabel = regexp.MustCompile(`[^a-z0-9-]+`)

// objectName is for all objects of host: a DNS label (RFC 1123), and another one
// for each host.
func objectName(h Host) string {
	const most = 50 // pods add to it, and a label has 63
	name := "trust-" + strings.Trim(notInLabel.ReplaceAllString(strings.ToLower(h.file()), "-"), "-")
	if len(name) > most {
		sum := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%s-%x", strings.TrimRight(name[:most-9], "-"), sum[:4])
	}
	return name
}

func indent(text string, by int) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if line != "" {
			b.WriteString(strings.Repeat(" ", by) + line)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// nodeScript keeps the files of /trust in the folders of a node. Files are
// replaced at once, so that no pull reads half of one; a hosts.toml of somebody
// else stays.
const nodeScript = `trap 'exit 0' TERM
put() {
  cmp -s "$TRUST/$1" "$2/$1" && return
  mkdir -p "$2" && cp "$TRUST/$1" "$2/.$1.new" && chmod 0644 "$2/.$1.new" && mv "$2/.$1.new" "$2/$1" && echo "wrote $1 to $2"
}
said=
while true; do
  put ca.crt "$NODE/containers/certs.d/$REGISTRY"
  dir="$NODE/containerd/certs.d/$REGISTRY"
  put ca.crt "$dir"
  if [ ! -e "$dir/hosts.toml" ] || grep -q '^# made by: regward trust' "$dir/hosts.toml"; then
    put hosts.toml "$dir"
  elif [ -z "$said" ]; then
    echo "left alone: the hosts.toml of somebody else in $dir; it needs the line  ca = \"ca.crt\""
  fi
  if [ -z "$said" ] && [ -e "$NODE/containerd/config.toml" ] && ! grep -Eqs '^[^#]*config_path *=.*certs[.]d' "$NODE/containerd/config.toml" "$NODE"/containerd/conf.d/*.toml; then
    echo "config.toml of containerd names no config_path: unless its default does, put it there and restart containerd, once"
  fi
  said=yes
  sleep 60 & wait $!
done
`

const daemonSet = `apiVersion: v1
kind: ConfigMap
metadata:
  name: OBJECT
  namespace: kube-system
data:
  ca.crt: |
    CA
  hosts.toml: |
    HOSTS_TOML
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: OBJECT
  namespace: kube-system
  labels: {app: OBJECT}
spec:
  selector:
    matchLabels: {app: OBJECT}
  template:
    metadata:
      labels: {app: OBJECT}
    spec:
      automountServiceAccountToken: false
      priorityClassName: system-node-critical
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 5
      containers:
        - name: trust
          image: busybox:1.37
          env:
            - {name: REGISTRY, value: "HOST"}
            - {name: TRUST, value: /trust}
            - {name: NODE, value: /node}
          command: [sh, -c]
          args:
          - |
            SCRIPT
          securityContext:
            runAsUser: 0
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
            seccompProfile: {type: RuntimeDefault}
            seLinuxOptions: {type: spc_t} # else SELinux lets no container write to /etc
          resources:
            requests: {cpu: 1m, memory: 4Mi}
            limits: {memory: 32Mi}
          volumeMounts:
            - {name: trust, mountPath: /trust, readOnly: true}
            - {name: containerd, mountPath: /node/containerd, readOnly: true}
            - {name: containerd-certs, mountPath: /node/containerd/certs.d}
            - {name: containers-certs, mountPath: /node/containers/certs.d}
      volumes:
        - name: trust
          configMap: {name: OBJECT}
        - name: containerd
          hostPath: {path: /etc/containerd, type: DirectoryOrCreate}
        - name: containerd-certs
          hostPath: {path: /etc/containerd/certs.d, type: DirectoryOrCreate}
        - name: containers-certs
          hostPath: {path: /etc/containers/certs.d, type: DirectoryOrCreate}
`
