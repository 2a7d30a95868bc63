{{/* The names. 52: a StatefulSet's pods carry its name and ten characters more in a label of at most 63. */}}
{{- define "authrelay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "authrelay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "authrelay.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "authrelay.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "authrelay.selector" -}}
app.kubernetes.io/name: {{ include "authrelay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "authrelay.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "authrelay.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "authrelay.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A setting's value as the relay reads it. Helm has every number as a float, which would be 5.24288e+07. */}}
{{- define "authrelay.text" -}}
{{- if kindIs "slice" . -}}
{{- $texts := list -}}
{{- range . }}{{ $texts = append $texts (include "authrelay.text" .) }}{{ end -}}
{{- join "\n" $texts -}}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end }}

{{/* The same within a pod, where $(NAME) would be another variable, and $$ is one $. */}}
{{- define "authrelay.escaped" -}}
{{- $text := include "authrelay.text" . -}}
{{- regexMatch "\\$[$(]" $text | ternary (replace "$" "$$" $text) $text -}}
{{- end }}

{{- define "authrelay.seconds" -}}
{{- $text := lower (include "authrelay.text" .) -}}
{{- $factors := dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $factors (regexFind "[a-z]$" $text | default "s") | int64) -}}
{{- end }}

{{- define "authrelay.drainSeconds" -}}
{{- include "authrelay.seconds" (default "4s" .Values.settings.DRAIN_TIMEOUT) -}}
{{- end }}

{{/* How long a pod takes to leave the Service. A sidecar is in none: its only client is in the pod, and ends before it. */}}
{{- define "authrelay.leaveSeconds" -}}
{{- eq .Values.mode "gateway" | ternary (int64 .Values.leaveSeconds) 0 -}}
{{- end }}

{{- define "authrelay.graceSeconds" -}}
{{- $least := add (include "authrelay.leaveSeconds" .) (include "authrelay.drainSeconds" .) -}}
{{- .Values.terminationGracePeriodSeconds | int64 | default (add $least 10) -}}
{{- end }}

{{/* The ports that clients use, separated by blanks. */}}
{{- define "authrelay.ports" -}}
{{- $ports := regexSplit "[\\s,]+" (trim (include "authrelay.text" (default "25 587" .Values.settings.LISTEN_PORTS))) -1 -}}
{{- if include "authrelay.has" (list . "SMTPD_TLS_CERT") }}{{ $ports = append $ports "465" }}{{ end -}}
{{- $ports | uniq | join " " -}}
{{- end }}

{{- define "authrelay.portName" -}}
{{- get (dict "25" "smtp" "587" "submission" "465" "submissions") . | default (printf "smtp-%s" .) -}}
{{- end }}

{{/* Where the status service answers: address and port, or nothing. */}}
{{- define "authrelay.statusListen" -}}
{{- $default := eq .Values.mode "gateway" | ternary "0.0.0.0:9154" "127.0.0.1:9154" -}}
{{- $text := include "authrelay.text" (default $default .Values.settings.STATUS_LISTEN) -}}
{{- if ne (lower $text) "none" }}{{ $text }}{{ end -}}
{{- end }}

{{- define "authrelay.statusPort" -}}
{{- regexFind "[0-9]+$" (include "authrelay.statusListen" .) -}}
{{- end }}

{{/* Whether the kubelet and Prometheus reach it: they come from outside of the pod. */}}
{{- define "authrelay.isStatusReachable" -}}
{{- $listen := include "authrelay.statusListen" . -}}
{{- if and $listen (not (regexMatch "^(127\\.|\\[::1\\])" $listen)) }}yes{{ end -}}
{{- end }}

{{/* Whether a setting is given, in whatever way: (list . "NAME"). */}}
{{- define "authrelay.has" -}}
{{- $values := (index . 0).Values -}}
{{- $name := index . 1 -}}
{{- if or (get $values.settings $name) (hasKey $values.secrets $name) (hasKey $values.files $name) }}yes{{ end -}}
{{- end }}

{{- define "authrelay.hostUsers" -}}
{{- if not (kindIs "invalid" .Values.hostUsers) -}}
hostUsers: {{ .Values.hostUsers }}
{{- else if semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version -}}
hostUsers: false
{{- end -}}
{{- end }}
