{{/*
For the chart of an application that has this one as a dependency, with authrelay.mode: sidecar in its values:

    spec:
      terminationGracePeriodSeconds: {{ include "authrelay.sidecar.graceSeconds" .Subcharts.authrelay }}
      initContainers:
        {{- include "authrelay.sidecar" .Subcharts.authrelay | nindent 8 }}
      containers:
        - name: application   # sends to localhost, port 25
      volumes:
        {{- include "authrelay.sidecar.volumes" .Subcharts.authrelay | nindent 8 }}

The kubelet starts it before the application, waits until it greets, and ends it after the application has ended: what
that handed in last goes out, too. It says nothing about the pod's readiness: the application's own mail may wait.
*/}}
{{- define "authrelay.sidecar" -}}
{{- include "authrelay.refuseProblems" . -}}
- name: authrelay
  {{- if .Values.sidecar.native }}
  restartPolicy: Always
  {{- end }}
  {{- include "authrelay.container" . | nindent 2 }}
{{- end }}

{{- define "authrelay.sidecar.volumes" -}}
{{- include "authrelay.volumes" . | trim -}}
{{- end }}

{{/* What the pod needs at least: the application's own time to end comes on top. */}}
{{- define "authrelay.sidecar.graceSeconds" -}}
{{- include "authrelay.graceSeconds" . -}}
{{- end }}
