{{/* The ports with metrics, as ports of a Service. In: context. */}}
{{- define "akri-mqtt.metricsPorts" -}}
{{- $ports := dict "admin" 8082 "handler-admin" 8081 -}}
{{- if eq .Values.mode "akri" -}}
{{- $ports = dict "admin-0" 8081 "admin-1" 8082 -}}
{{- end -}}
{{- range $name, $port := $ports }}
- name: {{ $name }}
  port: {{ $port }}
  targetPort: {{ $name }}
  protocol: TCP
{{- end }}
{{- end -}}
