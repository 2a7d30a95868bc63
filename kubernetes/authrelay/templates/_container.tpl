{{/* The relay's container, in whatever pod. */}}

{{- define "authrelay.env" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $settings = merge $settings (dict "INET_INTERFACES" "loopback-only" "STATUS_LISTEN" (include "authrelay.statusListen" . | default "none")) -}}
{{- end -}}
{{- range $name, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "authrelay.escaped" $value | toJson }}
{{- end }}
{{- end }}
{{- range $name, $reference := .Values.secrets }}
- name: {{ $name }}_FILE
  value: /etc/authrelay/secrets/{{ $reference.existingSecret }}/{{ $name }}
{{- end }}
{{- range $name, $reference := .Values.files }}
- name: {{ $name }}_FILE
  value: /etc/authrelay/files/{{ $reference.existingConfigMap }}/{{ $name }}
{{- end }}
{{- end }}

{{/* The names of the objects that are referred to, each once. */}}
{{- define "authrelay.existing" -}}
{{- $names := list -}}
{{- range index . 0 }}{{ $names = append $names (get . (index $ 1)) }}{{ end -}}
{{- $names | uniq | sortAlpha | join " " -}}
{{- end }}

{{/* What the container may do. Each capability: docs/hardening.md. NET_BIND_SERVICE: not every runtime lets root of a
     pod have port 25 without it. The ids, because a sidecar's pod may have others. */}}
{{- define "authrelay.securityContext" -}}
runAsUser: 0
runAsGroup: 0
runAsNonRoot: false
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [CHOWN, DAC_OVERRIDE, NET_BIND_SERVICE, SETGID, SETUID]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "authrelay.mounts" -}}
# The queue, and what was made here (client certificate, keys, tokens): two directories of one volume.
- name: {{ include "authrelay.queueVolumeName" . }}
  mountPath: /var/spool/postfix
  subPath: queue
- name: {{ include "authrelay.queueVolumeName" . }}
  mountPath: /var/lib/authrelay
  subPath: state
- name: authrelay-run
  mountPath: /run
- name: authrelay-tmp
  mountPath: /tmp
{{- range splitList " " (include "authrelay.existing" (list .Values.secrets "existingSecret")) | compact }}
- name: {{ include "authrelay.volumeName" (list "secret" .) }}
  mountPath: /etc/authrelay/secrets/{{ . }}
  readOnly: true
{{- end }}
{{- range splitList " " (include "authrelay.existing" (list .Values.files "existingConfigMap")) | compact }}
- name: {{ include "authrelay.volumeName" (list "file" .) }}
  mountPath: /etc/authrelay/files/{{ . }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The name of the volume of an object; what may be in an object's name and not in a volume's becomes a code. */}}
{{- define "authrelay.volumeName" -}}
{{- $name := index . 1 -}}
{{- if not (regexMatch "^[-a-z0-9]{1,40}$" $name) }}{{ $name = sha256sum $name | trunc 12 }}{{ end -}}
authrelay-{{ index . 0 }}-{{ $name }}
{{- end }}

{{- define "authrelay.queueVolumeName" -}}
{{- if eq .Values.queue.type "volume" }}{{ .Values.queue.volumeName }}{{ else }}{{ eq .Values.mode "gateway" | ternary "queue" "authrelay-queue" }}{{ end -}}
{{- end }}

{{/* The volumes of those mounts, but for the one of a volumeClaimTemplate. */}}
{{- define "authrelay.volumes" -}}
{{- if eq .Values.queue.type "existingClaim" }}
- name: {{ include "authrelay.queueVolumeName" . }}
  persistentVolumeClaim:
    claimName: {{ .Values.queue.existingClaim }}
{{- else if eq .Values.queue.type "emptyDir" }}
# Gone with the pod, and with it what the upstream does not have yet.
- name: {{ include "authrelay.queueVolumeName" . }}
  emptyDir:
    sizeLimit: {{ .Values.queue.size }}
{{- end }}
{{ include "authrelay.commonVolumes" . }}
{{- end }}

{{- define "authrelay.commonVolumes" -}}
# In memory: passwords in it never reach a disk. What is in them counts as the container's memory.
- name: authrelay-run
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
- name: authrelay-tmp
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- range $existing := splitList " " (include "authrelay.existing" (list .Values.secrets "existingSecret")) | compact }}
- name: {{ include "authrelay.volumeName" (list "secret" $existing) }}
  secret:
    secretName: {{ $existing }}
    defaultMode: 0400
    items:
    {{- range $name, $reference := $.Values.secrets }}
    {{- if eq $reference.existingSecret $existing }}
      - key: {{ $reference.key }}
        path: {{ $name }}
    {{- end }}
    {{- end }}
{{- end }}
{{- range $existing := splitList " " (include "authrelay.existing" (list .Values.files "existingConfigMap")) | compact }}
- name: {{ include "authrelay.volumeName" (list "file" $existing) }}
  configMap:
    name: {{ $existing }}
    items:
    {{- range $name, $reference := $.Values.files }}
    {{- if eq $reference.existingConfigMap $existing }}
      - key: {{ $reference.key }}
        path: {{ $name }}
    {{- end }}
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* How the kubelet asks: over HTTP where it reaches the status service, else by a command, which asks the same. */}}
{{- define "authrelay.probe.healthz" -}}
{{- if include "authrelay.isStatusReachable" . -}}
httpGet:
  path: /healthz
  port: {{ include "authrelay.statusPort" . }}
{{- else -}}
exec:
  command: [authrelay, health]
{{- end }}
timeoutSeconds: 10
{{- end }}

{{- define "authrelay.probe.readyz" -}}
{{- if include "authrelay.isStatusReachable" . -}}
httpGet:
  path: {{ eq .Values.readiness "delivers" | ternary "/readyz" "/readyz?exclude=upstream" }}
  port: {{ include "authrelay.statusPort" . }}
{{- else -}}
exec:
  command: {{ eq .Values.readiness "delivers" | ternary "[authrelay, health, --ready]" "[authrelay, health]" }}
{{- end }}
timeoutSeconds: 10
{{- end }}

{{- define "authrelay.container" -}}
image: {{ include "authrelay.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "authrelay.env" . | trim | nindent 2 }}
{{- if eq .Values.mode "gateway" }}
ports:
  {{- range splitList " " (include "authrelay.ports" .) }}
  - name: {{ include "authrelay.portName" . }}
    containerPort: {{ . }}
  {{- end }}
  {{- with include "authrelay.statusPort" . }}
  - name: status
    containerPort: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "authrelay.securityContext" . | nindent 2 }}
# A start takes less than a second; a long queue, a slow disk or a CA that is fetched first may take more.
startupProbe:
  {{- include "authrelay.probe.healthz" . | nindent 2 }}
  periodSeconds: 1
  failureThreshold: 120
# Would a restart help? An upstream that is away makes nobody unhealthy.
livenessProbe:
  {{- include "authrelay.probe.healthz" . | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 6
{{- if eq .Values.mode "gateway" }}
readinessProbe:
  {{- include "authrelay.probe.readyz" . | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 2
# While the cluster takes the pod out of the Service it still greets; only then TERM, and 421 for all.
lifecycle:
  preStop:
    exec:
      command: [sleep, {{ include "authrelay.leaveSeconds" . | quote }}]
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  {{- include "authrelay.mounts" . | nindent 2 }}
{{- end }}
