{{- /* Refuses values that the schema cannot refuse with words that help. Each message begins with the path of the value. */ -}}
{{- define "tandem.validate" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository: is not set: give the repository that the nodes pull the image from, without a tag" -}}
{{- end -}}
{{- include "tandem.validate.apiServer" . -}}
{{- include "tandem.validate.files" . -}}
{{- include "tandem.validate.dataPlane" . -}}
{{- include "tandem.validate.devices" . -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{- if hasKey $.Values.podLabels $label -}}
{{- fail (printf "podLabels: %s: is set by the chart, because the DaemonSet finds its pods by it" $label) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "NODE_NAME" -}}
{{- fail "extraEnv: NODE_NAME: is set by the chart to the name of the Node" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A null takes a value away, as `--set apiServer.host=null` does. */ -}}
{{- define "tandem.validate.apiServer" -}}
{{- $given := list -}}
{{- range $key := list "host" "kubeconfigConfigMap" "kubeconfigSecret" -}}
{{- if not (kindIs "invalid" (index $.Values.apiServer $key)) -}}
{{- $given = append $given (printf "apiServer.%s" $key) -}}
{{- end -}}
{{- end -}}
{{- if .Values.existingConfigMap -}}
{{- $given = append $given "existingConfigMap" -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "%s: more than one of them says where the API server is: give one" (join ", " $given)) -}}
{{- end -}}
{{- if and (not $given) (eq .Values.mode "agent") -}}
{{- fail "apiServer.host: is not set: give the API server's own address. A pod is told only the ClusterIP of the Service kubernetes, and nothing answers there before Tandem runs. Or give apiServer.kubeconfigConfigMap, apiServer.kubeconfigSecret or existingConfigMap" -}}
{{- end -}}
{{- if kindIs "string" .Values.apiServer.host -}}
{{- include "tandem.validate.host" . -}}
{{- end -}}
{{- end -}}

{{- define "tandem.validate.host" -}}
{{- $host := .Values.apiServer.host -}}
{{- $wrong := printf "apiServer.host: %q: " $host -}}
{{- if contains "://" $host -}}
{{- fail (printf "%sis a URL: give the address or the name alone, and the port as apiServer.port" $wrong) -}}
{{- else if hasPrefix "[" $host -}}
{{- fail (printf "%shas brackets: give the IPv6 address without them, and the port as apiServer.port" $wrong) -}}
{{- else if regexMatch `^[^:]*:[0-9]*$` $host -}}
{{- fail (printf "%shas a port: give it as apiServer.port" $wrong) -}}
{{- else if contains ":" $host -}}
{{- include "tandem.validate.ipv6" (dict "host" $host "wrong" $wrong) -}}
{{- else if regexMatch `^[0-9.]+$` $host -}}
{{- if not (regexMatch `^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.|$)){4}$` $host) -}}
{{- fail (printf "%sis neither an IPv4 address nor a name" $wrong) -}}
{{- end -}}
{{- else if not (regexMatch `^([A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?\.?$` $host) -}}
{{- fail (printf "%sis neither an address nor a name: give for example 192.0.2.1, fd00::1 or api.example.com" $wrong) -}}
{{- else if regexMatch `^kubernetes(\.default(\.svc(\..*)?)?)?\.?$` $host -}}
{{- fail (printf "%sis the Service kubernetes: nothing answers there before Tandem runs: give the API server's own address" $wrong) -}}
{{- end -}}
{{- /* Finds nothing without a cluster, as in `helm template`. */ -}}
{{- $service := lookup "v1" "Service" "default" "kubernetes" -}}
{{- if has $host (dig "spec" "clusterIPs" list $service) -}}
{{- fail (printf "%sis the ClusterIP of the Service kubernetes: nothing answers there before Tandem runs: give the API server's own address" $wrong) -}}
{{- end -}}
{{- end -}}

{{- define "tandem.validate.ipv6" -}}
{{- $good := regexMatch `^[0-9A-Fa-f:]+$` .host -}}
{{- $groups := 0 -}}
{{- range splitList ":" .host -}}
{{- if gt (len .) 4 -}}{{- $good = false -}}{{- end -}}
{{- if . -}}{{- $groups = add1 $groups -}}{{- end -}}
{{- end -}}
{{- $gaps := len (regexFindAll `::` .host -1) -}}
{{- if or (gt $gaps 1) (contains ":::" .host) -}}{{- $good = false -}}{{- end -}}
{{- if eq $gaps 1 -}}
{{- if gt (int $groups) 7 -}}{{- $good = false -}}{{- end -}}
{{- else if or (ne (int $groups) 8) (hasPrefix ":" .host) (hasSuffix ":" .host) -}}
{{- $good = false -}}
{{- end -}}
{{- if or (regexMatch `^:[^:]` .host) (regexMatch `[^:]:$` .host) -}}{{- $good = false -}}{{- end -}}
{{- if not $good -}}
{{- fail (printf "%sis not an IPv6 address: give it as in fd00::1, without brackets, port and zone" .wrong) -}}
{{- end -}}
{{- end -}}

{{- define "tandem.validate.files" -}}
{{- if and .Values.existingConfigMap .Values.kubeProxyConfiguration -}}
{{- fail "existingConfigMap, kubeProxyConfiguration: both are given: change the ConfigMap, or give the whole configuration as kubeProxyConfiguration" -}}
{{- end -}}
{{- range $field := list "apiVersion" "kind" -}}
{{- range $map := list "kubeProxyConfiguration" "tandemConfiguration" -}}
{{- if hasKey (index $.Values $map) $field -}}
{{- fail (printf "%s.%s: is set by the chart" $map $field) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.kubeProxyConfiguration "hostnameOverride" -}}
{{- fail "kubeProxyConfiguration.hostnameOverride: would name all nodes alike: the chart gives each pod the name of its Node" -}}
{{- end -}}
{{- if hasKey (.Values.kubeProxyConfiguration.clientConnection | default dict) "kubeconfig" -}}
{{- fail "kubeProxyConfiguration.clientConnection.kubeconfig: is set by the chart: give apiServer.kubeconfigConfigMap or apiServer.kubeconfigSecret" -}}
{{- end -}}
{{- if hasKey .Values.tandemConfiguration "socket" -}}
{{- fail "tandemConfiguration.socket: is set by the chart: the readiness probe asks there" -}}
{{- end -}}
{{- end -}}

{{- define "tandem.validate.dataPlane" -}}
{{- if hasKey .Values.tandemConfiguration "bpfFolder" -}}
{{- fail "tandemConfiguration.bpfFolder: is set by the chart: the node's /sys/fs/bpf is mounted there" -}}
{{- end -}}
{{- /* Pods that do not see the node's BPF file system could not remove programs that answer there. Finds nothing without a cluster. */ -}}
{{- if and (eq .Values.mode "agent") (not .Values.tandemConfiguration.dataPlane) -}}
{{- $installed := lookup "apps/v1" "DaemonSet" .Release.Namespace (include "tandem.name" .) -}}
{{- range dig "spec" "template" "spec" "volumes" list $installed -}}
{{- if and (eq .name "cgroup") .hostPath -}}
{{- fail "tandemConfiguration.dataPlane: is xdp in the release that is installed: give nft, so that the agents remove the programs from the nodes. A later upgrade may leave it out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What the agents would refuse. Cleaning does not look at it. */ -}}
{{- define "tandem.validate.devices" -}}
{{- if eq .Values.mode "agent" -}}
{{- $xdp := .Values.tandemConfiguration.xdp | default dict -}}
{{- if not (kindIs "invalid" $xdp.maxFlows) -}}
{{- $flows := int64 $xdp.maxFlows -}}
{{- if or (lt $flows 16384) (gt $flows 8388608) -}}
{{- fail (printf "tandemConfiguration.xdp.maxFlows: %d: must be between 16384 and 8388608" $flows) -}}
{{- end -}}
{{- end -}}
{{- range $xdp.devices | default list -}}
{{- $wrong := printf "tandemConfiguration.xdp.devices: %q: " . -}}
{{- if not . -}}
{{- fail (printf "%sis empty: name a device, or write auto or default-route" $wrong) -}}
{{- else if regexMatch `\s` . -}}
{{- fail (printf "%sno name of a device has white space in it" $wrong) -}}
{{- else if contains "/" . -}}
{{- fail (printf "%sno name of a device has a / in it" $wrong) -}}
{{- else if gt (len (replace "*" "" .)) 15 -}}
{{- fail (printf "%sno name of a device is longer than 15 bytes" $wrong) -}}
{{- else if or (has . (list "." "..")) (regexMatch `[:"\\]|[^!-~]` .) -}}
{{- fail (printf "%sis not the name of a device" $wrong) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
