{{/* What values may be one by one is in values.schema.json; here is what they may not be together. All problems at once:
     each is what was set, what is wrong with it, and a literal example of what is right. */}}
{{- define "authrelay.problems" -}}
{{- $values := .Values -}}
{{- $settings := .Values.settings -}}
{{- $isGateway := eq .Values.mode "gateway" -}}
{{- $isOne := and (not .Values.autoscaling.enabled) (le (int64 .Values.replicas) 1) -}}

{{- if not (or (include "authrelay.has" (list . "RELAYHOST")) (include "authrelay.has" (list . "PROVIDER"))) }}
settings.RELAYHOST: there is no upstream. Name it, for example settings.RELAYHOST: smtp.example.com:587
{{- end }}
{{- range $name := keys $settings $values.secrets $values.files | uniq | sortAlpha }}
{{- $ways := list }}
{{- if get $settings $name }}{{ $ways = append $ways "settings" }}{{ end }}
{{- if hasKey $values.secrets $name }}{{ $ways = append $ways "secrets" }}{{ end }}
{{- if hasKey $values.files $name }}{{ $ways = append $ways "files" }}{{ end }}
{{- if gt (len $ways) 1 }}
{{ $name }}: it is in {{ join " and in " $ways }}, and only one can be meant. Remove the others
{{- end }}
{{- end }}
{{- range list "DRAIN_TIMEOUT" "INET_INTERFACES" "LISTEN_PORTS" "STATUS_LISTEN" }}
{{- if or (hasKey $values.secrets .) (hasKey $values.files .) }}
{{ . }}: the chart has to know it, and cannot look into an object. Write it into settings
{{- end }}
{{- end }}

{{- $least := add (include "authrelay.leaveSeconds" .) (include "authrelay.drainSeconds" .) 6 -}}
{{- if lt (include "authrelay.graceSeconds" . | int64) $least }}
terminationGracePeriodSeconds={{ int64 .Values.terminationGracePeriodSeconds }}: a pod needs {{ $least }} seconds to end: {{ include "authrelay.leaveSeconds" . }} to leave the Service, DRAIN_TIMEOUT={{ include "authrelay.drainSeconds" . }}s and 6 for deliveries under way; the kubelet's KILL before that may send mail twice. Write terminationGracePeriodSeconds: {{ $least }} or more, or a shorter settings.DRAIN_TIMEOUT
{{- end }}

{{- if and (eq .Values.queue.type "emptyDir") (not .Values.queue.mayBeLost) }}
queue.type=emptyDir: mail that was accepted and is not yet delivered is gone with the pod. {{ if $isGateway }}Use queue.type: volumeClaimTemplate{{ else }}Use a volume of the pod's (queue.type: volume, queue.volumeName: data){{ end }}, or say that you accept that: queue.mayBeLost: true
{{- end }}
{{- if and (eq .Values.queue.type "existingClaim") (not .Values.queue.existingClaim) }}
queue.existingClaim: queue.type is existingClaim, and it has no name. Write, for example, queue.existingClaim: relay-queue
{{- end }}

{{- if $isGateway }}
{{- if eq .Values.queue.type "volume" }}
queue.type=volume: that is for a sidecar, whose pod has the volume. Use queue.type: volumeClaimTemplate
{{- end }}
{{- if and (eq .Values.queue.type "existingClaim") (not $isOne) }}
queue.type=existingClaim: two relays cannot have one queue. Use queue.type: volumeClaimTemplate, or replicas: 1
{{- end }}
{{- if not (or (include "authrelay.has" (list . "MYNETWORKS")) (include "authrelay.has" (list . "SMTPD_USERS_TABLE")) (include "authrelay.has" (list . "SMTPD_CLIENT_CERTS_TABLE"))) }}
settings.MYNETWORKS: who may send? Pods on other nodes are in none of a gateway's own subnets. Name the cluster's pod network, for example settings.MYNETWORKS: 10.244.0.0/16 ('kubectl get nodes -o jsonpath={.items[*].spec.podCIDRs}' shows each node's part), or let clients log in: secrets.SMTPD_USERS_TABLE
{{- end }}
{{- if eq (lower (toString (get $settings "INET_INTERFACES"))) "loopback-only" }}
settings.INET_INTERFACES=loopback-only: nobody would reach a gateway. Remove it, or use mode: sidecar
{{- end }}
{{- $own := dict "DKIM_DOMAINS" "DKIM_KEY" -}}
{{- if and (not $isOne) (include "authrelay.has" (list . "DKIM_DOMAINS")) (not (include "authrelay.has" (list . "DKIM_KEY"))) }}
settings.DKIM_DOMAINS: each gateway would make a key of its own, and only one of them can be published. Give all of them one: secrets.DKIM_KEY: {existingSecret: relay, key: dkim.pem}
{{- end }}
{{- if and (not $isOne) (eq (lower (toString (get $settings "LOG_ADDRESSES"))) "hash") (not (include "authrelay.has" (list . "LOG_ADDRESSES_KEY"))) }}
settings.LOG_ADDRESSES=hash: each gateway would make a key of its own, and have other codes for the same address. Give all of them one: secrets.LOG_ADDRESSES_KEY: {existingSecret: relay, key: addresses}
{{- end }}
{{- if and (not $isOne) (include "authrelay.has" (list . "OAUTH2_CLIENT_ID")) }}
{{- $ways := list }}
{{- range list "OAUTH2_CLIENT_SECRET" "OAUTH2_REFRESH_TOKEN" "OAUTH2_SERVICE_ACCOUNT" "OAUTH2_CLIENT_CERT" }}
{{- if include "authrelay.has" (list $ .) }}{{ $ways = append $ways . }}{{ end }}
{{- end }}
{{- if not $ways }}
settings.OAUTH2_CLIENT_ID: without a secret each gateway would make a certificate of its own to prove who it is, and each would have to be uploaded. Give all of them one secret or certificate: secrets.OAUTH2_CLIENT_SECRET: {existingSecret: relay, key: client-secret}
{{- end }}
{{- end }}

{{- if and .Values.autoscaling.enabled (gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) }}
autoscaling.minReplicas={{ int64 .Values.autoscaling.minReplicas }}: it is more than autoscaling.maxReplicas={{ int64 .Values.autoscaling.maxReplicas }}
{{- end }}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.cpuPercent) (not .Values.autoscaling.queueMessages) }}
autoscaling: it has nothing to go by. Write autoscaling.cpuPercent: 80, or autoscaling.queueMessages: 500
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.cpuPercent (not (dig "requests" "cpu" "" .Values.resources)) }}
autoscaling.cpuPercent: it is a share of the CPU request, and there is none. Write resources.requests.cpu: 100m
{{- end }}
{{- $running := .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas .Values.replicas | int64 }}
{{- range .Values.emptyQueue.replicas }}
{{- if lt (int64 .) $running }}
emptyQueue.replicas: gateway {{ int64 . }} is, or may be, running, and empties its queue itself. Only volumes from number {{ $running }} on belong to nobody
{{- end }}
{{- end }}
{{- if and .Values.emptyQueue.replicas (ne .Values.queue.type "volumeClaimTemplate") }}
emptyQueue.replicas: only gateways with a volume each (queue.type: volumeClaimTemplate) leave volumes behind
{{- end }}

{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
metrics.podMonitor.enabled: with metrics.serviceMonitor.enabled every gateway would be counted twice. Choose one of them
{{- end }}
{{- if or .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) }}
networkPolicy.metricsFrom: nobody may read the metrics. Say where Prometheus runs, for example networkPolicy.metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
{{- end }}
{{- if not (include "authrelay.isStatusReachable" .) }}
settings.STATUS_LISTEN={{ get $settings "STATUS_LISTEN" }}: Prometheus cannot reach it. Leave it out, or write 0.0.0.0:9154
{{- end }}
{{- end }}
{{- else }}
{{- if eq .Values.queue.type "volumeClaimTemplate" }}
queue.type=volumeClaimTemplate: a sidecar's pod has no claims of the relay's. Where a restart of the pod may lose mail use queue.type: emptyDir and queue.mayBeLost: true, otherwise a volume of the pod's: queue.type: volume and queue.volumeName: data
{{- end }}
{{- if and (eq .Values.queue.type "volume") (not .Values.queue.volumeName) }}
queue.volumeName: queue.type is volume, and it has no name. Write the name of one of the pod's volumes, for example queue.volumeName: data
{{- end }}
{{- end }}
{{- end }}

{{- define "authrelay.refuseProblems" -}}
{{- with include "authrelay.problems" . | trim }}
{{- fail (printf "the values do not fit together:\n\n%s\n" .) }}
{{- end }}
{{- end }}
