{{- define "hwacha.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "hwacha.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "hwacha.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "hwacha.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The labels that select the pods of a role. Takes a dict with `root` and `role`. */}}
{{- define "hwacha.selector" -}}
app.kubernetes.io/name: hwacha
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "hwacha.labels" -}}
{{ include "hwacha.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* The number of bytes of a quantity such as 8Gi, 512M, 4GiB or 1024. */}}
{{- define "hwacha.bytes" -}}
{{- $text := . | toString -}}
{{- $unit := regexFind "[A-Za-z]*$" $text | trimSuffix "B" -}}
{{- $factor := get (dict "" 1 "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) $unit -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) $factor | floor | int64 -}}
{{- end }}

{{/* The thousandths of a core of a quantity such as 2, 1.5 or 500m. */}}
{{- define "hwacha.millicores" -}}
{{- $text := . | toString -}}
{{- if hasSuffix "m" $text }}{{ trimSuffix "m" $text | int64 }}{{ else }}{{ mulf ($text | float64) 1000 | int64 }}{{ end -}}
{{- end }}

{{/* A value of the configuration as TOML. Helm reads whole numbers as floats, which TOML tells apart. */}}
{{- define "hwacha.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }},{{ end }} {{ $key }} = {{ include "hwacha.toml" (get $ $key) }}{{ end }} }
{{- else if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{/* The parts of a pod that both roles have. Takes a dict with `root`, `role` and `values`. */}}
{{- define "hwacha.pod" -}}
serviceAccountName: {{ include "hwacha.serviceAccount" .root }}
# Workload identity does not need the token of the API server.
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{ toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.values $field }}
{{ $field }}: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The parts of a container that both roles have. The process answers the probes at its own port. */}}
{{- define "hwacha.container" -}}
image: {{ include "hwacha.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{ toYaml .root.Values.securityContext | nindent 2 }}
resources: {{ toYaml .values.resources | nindent 2 }}
ports:
  - { name: grpc, containerPort: 50050 }
startupProbe:
  grpc: { port: 50050, service: live }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  grpc: { port: 50050, service: live }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: { port: 50050, service: ready }
  periodSeconds: 5
  timeoutSeconds: 5
{{- with .root.Values.extraEnvFrom }}
envFrom: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* NetworkPolicy decides who reaches the port. */}}
{{- define "hwacha.flags" -}}
- --config=/etc/hwacha/hwacha.toml
- --listen=0.0.0.0:50050
- --allow-remote
{{- end }}

{{- define "hwacha.mounts" -}}
- { name: config, mountPath: /etc/hwacha/hwacha.toml, subPath: {{ .role }}.toml, readOnly: true }
{{- range .root.Values.secrets }}
- { name: secret-{{ . }}, mountPath: /etc/hwacha/secrets/{{ . }}, readOnly: true }
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hwacha.volumes" -}}
- name: config
  configMap: { name: {{ include "hwacha.name" .root }} }
{{- range .root.Values.secrets }}
- name: secret-{{ . }}
  secret: { secretName: {{ . }} }
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A volume that is a part of the node's disk. Takes a dict with `name` and `volume`. */}}
{{- define "hwacha.disk" -}}
- name: {{ .name }}
  emptyDir: { sizeLimit: {{ .volume.size }} }
{{- end }}

{{- define "hwacha.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: { name: {{ .name }} }
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .volume.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources: { requests: { storage: {{ .volume.size }} } }
{{- end }}

{{- define "hwacha.podMetadata" -}}
labels:
  {{- include "hwacha.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # New configuration starts new pods.
  hwacha/config: {{ include (print .root.Template.BasePath "/config.yaml") .root | sha256sum }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
