{{- /* The name of the objects in the release's namespace. */ -}}
{{- define "tandem.name" -}}
{{- if contains "tandem" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tandem" (.Release.Name | trunc 45 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- /* The name of the objects that belong to no namespace. No namespace has a colon in its name, so two releases never share them. */ -}}
{{- define "tandem.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "tandem.name" .) -}}
{{- end -}}

{{- /* The labels that the DaemonSet selects by. They can never change: Kubernetes would refuse every upgrade. */ -}}
{{- define "tandem.selector" -}}
app.kubernetes.io/name: tandem
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* The labels of all objects. Pods get only the selector's: a new version of the chart alone must not restart them. */ -}}
{{- define "tandem.labels" -}}
{{ include "tandem.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tandem.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- /* The data plane that the agents are told: nft, xdp, or empty if the values say nothing. In mode `cleanup` there are no agents. */ -}}
{{- define "tandem.dataPlane" -}}
{{- if eq .Values.mode "agent" -}}{{ .Values.tandemConfiguration.dataPlane | default "" }}{{- end -}}
{{- end -}}

{{- /*
Whether the pods see the node's BPF file system. With xdp, programs are pinned there. With nft, agents remove what xdp left there: this takes no capability,
because the owner may remove files. Cleaning always looks there, because the chart does not know what earlier releases did.
*/ -}}
{{- define "tandem.seesPins" -}}
{{- if or (include "tandem.dataPlane" .) (eq .Values.mode "cleanup") -}}true{{- end -}}
{{- end -}}

{{- /*
What a privileged init container does about the ports of xdp.devices; empty if the values name no such field, or no data plane. `reserve`: the node's other
programs must not get them. `release`: nobody needs them any more. `clean`: it removes everything that Tandem left on the node, and they are a part of it.
*/ -}}
{{- define "tandem.ports" -}}
{{- $xdp := .Values.tandemConfiguration.xdp | default dict -}}
{{- if not (kindIs "invalid" $xdp.devices) -}}
{{- if eq .Values.mode "cleanup" -}}clean
{{- else if and (eq (include "tandem.dataPlane" .) "xdp") $xdp.devices -}}reserve
{{- else if include "tandem.dataPlane" . -}}release
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The capabilities of the agent's container, by the feature that needs them. Everything else is dropped. */ -}}
{{- define "tandem.capabilities" -}}
{{- $features := dict
  "Services: tables, routes, flows" (list "NET_ADMIN")
-}}
{{- if eq (include "tandem.dataPlane" .) "xdp" -}}
{{- $_ := set $features "dataPlane xdp: programs in the kernel" (list "BPF" "NET_ADMIN" "PERFMON") -}}
{{- end -}}
{{- if and .Values.lowPorts (eq .Values.mode "agent") -}}
{{- $_ := set $features "lowPorts: listening below port 1024" (list "NET_BIND_SERVICE") -}}
{{- end -}}
{{- $needed := list -}}
{{- range $feature, $capabilities := $features -}}
{{- $needed = concat $needed $capabilities -}}
{{- end -}}
{{- $needed | uniq | sortAlpha | toYaml -}}
{{- end -}}

{{- /* What every container has in common. No user is given: the image's is 0. */ -}}
{{- define "tandem.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add:
  {{- include "tandem.capabilities" . | nindent 2 }}
{{- if include "tandem.seesPins" . }}
# Where containers are confined by SELinux, the usual type may not use the node's BPF file system. Elsewhere it has no effect.
seLinuxOptions: {level: s0, type: spc_t}
{{- end }}
{{- end -}}

{{- /* Where the API server is known from: host, configMap, secret or existing. */ -}}
{{- define "tandem.source" -}}
{{- if .Values.existingConfigMap -}}existing
{{- else if .Values.apiServer.kubeconfigConfigMap -}}configMap
{{- else if .Values.apiServer.kubeconfigSecret -}}secret
{{- else -}}host
{{- end -}}
{{- end -}}

{{- /* The API server's address as a URL. An IPv6 address has brackets there. */ -}}
{{- define "tandem.server" -}}
{{- $host := .Values.apiServer.host -}}
{{- printf "https://%s:%d" (contains ":" $host | ternary (printf "[%s]" $host) $host) (int .Values.apiServer.port) -}}
{{- end -}}

{{- /* The content of config.conf. */ -}}
{{- define "tandem.kubeProxyConfiguration" -}}
{{- $file := deepCopy .Values.kubeProxyConfiguration -}}
{{- $_ := set $file "apiVersion" "kubeproxy.config.k8s.io/v1alpha1" -}}
{{- $_ = set $file "kind" "KubeProxyConfiguration" -}}
{{- /* A default counts if the field is not there. `mergeOverwrite` would also put it in the place of 0 and false. */ -}}
{{- if not (hasKey $file "oomScoreAdj") -}}
{{- $_ = set $file "oomScoreAdj" -997 -}}
{{- end -}}
{{- if not .Values.kernelSettings -}}
{{- $conntrack := $file.conntrack | default dict -}}
{{- range $field, $leave := dict "maxPerCore" 0 "min" 0 "tcpEstablishedTimeout" "0s" "tcpCloseWaitTimeout" "0s" -}}
{{- if not (hasKey $conntrack $field) -}}
{{- $_ = set $conntrack $field $leave -}}
{{- end -}}
{{- end -}}
{{- $_ = set $file "conntrack" $conntrack -}}
{{- end -}}
{{- if has (include "tandem.source" .) (list "configMap" "secret") -}}
{{- $connection := $file.clientConnection | default dict -}}
{{- $_ = set $connection "kubeconfig" "/etc/kubeconfig/kubeconfig" -}}
{{- $_ = set $file "clientConnection" $connection -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}

{{- /* The content of tandem.conf. */ -}}
{{- define "tandem.tandemConfiguration" -}}
{{- /* Cleaning needs one field only, and a wrong value of another one must not hold it up. */ -}}
{{- $file := eq .Values.mode "cleanup" | ternary dict (deepCopy .Values.tandemConfiguration) -}}
{{- if include "tandem.seesPins" . -}}
{{- $_ := set $file "bpfFolder" "/host/sys/fs/bpf/tandem" -}}
{{- end -}}
{{- $_ := set $file "apiVersion" "tandem.config/v1alpha1" -}}
{{- $_ = set $file "kind" "TandemConfiguration" -}}
{{- toYaml $file -}}
{{- end -}}

{{- /* Whether the chart makes a ConfigMap. A tandem.conf in the user's own ConfigMap counts if none is given here. */ -}}
{{- define "tandem.hasConfigMap" -}}
{{- if or (ne (include "tandem.source" .) "existing") .Values.tandemConfiguration (eq .Values.mode "cleanup") -}}true{{- end -}}
{{- end -}}

{{- /* The arguments that `tandem run` has in the agent and in the init container. */ -}}
{{- define "tandem.arguments" -}}
{{- if eq (include "tandem.source" .) "existing" }}
- --config=/var/lib/kube-proxy/{{ .Values.existingConfigMap.key | default "config.conf" }}
{{- if .Values.tandemConfiguration }}
- --tandem-config=/etc/tandem/tandem.conf
{{- end }}
{{- else }}
- --config=/etc/tandem/config.conf
{{- if eq (include "tandem.source" .) "host" }}
- --master={{ include "tandem.server" . }}
{{- end }}
{{- end }}
- --hostname-override=$(NODE_NAME)
{{- end -}}

{{- /*
The arguments of the init container. It writes the settings of `conntrack` only with kernelSettings, so without it the file with them is not named, and flags
leave them as they are.
*/ -}}
{{- define "tandem.initArguments" -}}
{{- if eq .Values.mode "cleanup" }}
- --cleanup
- --tandem-config=/etc/tandem/tandem.conf
{{- else if .Values.kernelSettings }}
- --init-only
{{- include "tandem.arguments" . }}
{{- else }}
- --init-only
- --tandem-config=/etc/tandem/tandem.conf
- --conntrack-max-per-core=0
- --conntrack-min=0
- --conntrack-tcp-timeout-established=0s
- --conntrack-tcp-timeout-close-wait=0s
- --hostname-override=$(NODE_NAME)
{{- end }}
{{- end -}}

{{- /*
The folders of the init container. What the reserved ports were before is remembered in the node's /run/tandem, because pods come and go. They are given back
only when no program is attached to a device any more, so it must see where these are pinned.
*/ -}}
{{- define "tandem.initMounts" -}}
{{- if and .Values.kernelSettings (ne .Values.mode "cleanup") }}
{{- include "tandem.mounts" . }}
{{- else }}
- name: configuration
  mountPath: /etc/tandem
  readOnly: true
{{- end }}
{{- with include "tandem.ports" . }}
- name: node-run
  mountPath: /run/tandem
- name: bpf
  mountPath: /host/sys/fs/bpf
{{- if ne . "clean" }}
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- /* The folders that both containers see. Whole folders, no single files: only those follow a change. */ -}}
{{- define "tandem.mounts" -}}
{{- if include "tandem.hasConfigMap" . }}
- name: configuration
  mountPath: /etc/tandem
  readOnly: true
{{- end }}
{{- if eq (include "tandem.source" .) "existing" }}
- name: existing
  mountPath: /var/lib/kube-proxy
  readOnly: true
{{- else if ne (include "tandem.source" .) "host" }}
- name: kubeconfig
  mountPath: /etc/kubeconfig
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tandem.volumes" -}}
{{- if include "tandem.hasConfigMap" . }}
- name: configuration
  configMap:
    name: {{ include "tandem.name" . }}
{{- end }}
{{- if eq (include "tandem.source" .) "existing" }}
- name: existing
  configMap:
    name: {{ .Values.existingConfigMap.name | quote }}
{{- else if eq (include "tandem.source" .) "configMap" }}
- name: kubeconfig
  configMap:
    name: {{ .Values.apiServer.kubeconfigConfigMap.name | quote }}
    items:
    - key: {{ .Values.apiServer.kubeconfigConfigMap.key | quote }}
      path: kubeconfig
{{- else if eq (include "tandem.source" .) "secret" }}
- name: kubeconfig
  secret:
    secretName: {{ .Values.apiServer.kubeconfigSecret.name | quote }}
    items:
    - key: {{ .Values.apiServer.kubeconfigSecret.key | quote }}
      path: kubeconfig
{{- end }}
{{- end -}}

{{- /*
The node's folders of the agent's container. They are below /host: AppArmor's usual profile of containers refuses to write below /sys/fs, but for
cgroups. /sys/fs/cgroup of the container is its own part of the hierarchy, and programs are attached to the node's. No mountPropagation is asked for: on nodes
that share no mounts, containers would not start.
*/ -}}
{{- define "tandem.nodeMounts" -}}
{{- if include "tandem.seesPins" . }}
- name: bpf
  mountPath: /host/sys/fs/bpf
{{- end }}
{{- if eq (include "tandem.dataPlane" .) "xdp" }}
- name: cgroup
  mountPath: /host/sys/fs/cgroup
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tandem.nodeVolumes" -}}
{{- if include "tandem.seesPins" . }}
- name: bpf
  hostPath:
    path: /sys/fs/bpf
    type: Directory
{{- end }}
{{- if eq (include "tandem.dataPlane" .) "xdp" }}
- name: cgroup
  hostPath:
    path: /sys/fs/cgroup
    type: Directory
{{- end }}
{{- if include "tandem.ports" . }}
- name: node-run
  hostPath:
    path: /run/tandem
    type: DirectoryOrCreate
{{- end }}
{{- end -}}

{{- define "tandem.env" -}}
- name: NODE_NAME # the host's name may be another one
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /*
The port that the liveness probe asks; empty if there is no such probe. kubelet asks at the node's address. So there is none if healthzBindAddress is one
single address: Pod Security forbids probes that name a host.
*/ -}}
{{- define "tandem.livenessPort" -}}
{{- if .Values.existingConfigMap -}}
{{- $port := dig "healthzPort" 10256 .Values.existingConfigMap | int -}}
{{- if $port -}}{{ $port }}{{- end -}}
{{- else -}}
{{- $address := .Values.kubeProxyConfiguration.healthzBindAddress | default "0.0.0.0" -}}
{{- if regexMatch `^(0\.0\.0\.0|::|\[::\])$` $address -}}10256
{{- else if regexMatch `^(0\.0\.0\.0|\[::\]):[0-9]+$` $address -}}{{ regexFind `[0-9]+$` $address }}
{{- end -}}
{{- end -}}
{{- end -}}
