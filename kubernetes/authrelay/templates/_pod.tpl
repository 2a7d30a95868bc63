{{/* What the pods of gateways and of the jobs have in common. No fsGroup: the queue's directories have owners of their
     own, and the relay puts them right on every start. */}}
{{- define "authrelay.podSpec" -}}
automountServiceAccountToken: false
# Nobody needs <SERVICE>_PORT=tcp://...; a sidecar's pod may have them, and the relay knows what they are.
enableServiceLinks: false
{{- with include "authrelay.hostUsers" . }}
{{ . }}
{{- end }}
securityContext:
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.sysctls }}
  sysctls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
