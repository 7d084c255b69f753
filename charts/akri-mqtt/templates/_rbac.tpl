{{/* Objects of access control that both modes have. */}}

{{/* In: dict "labels" "annotations", both as text. */}}
{{- define "akri-mqtt.rbacMetadata" -}}
labels:
  {{- .labels | nindent 2 }}
{{- with .annotations }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Binds a Role to the subject. In: dict "name" "namespace" "subject" "head". */}}
{{- define "akri-mqtt.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name | quote }}
  namespace: {{ .namespace | quote }}
  {{- include "akri-mqtt.rbacMetadata" .head | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name | quote }}
subjects:
  - {{ toYaml .subject | nindent 4 | trim }}
{{- end -}}

{{/* Access to what discoveryProperties refer to, in each namespace in which they may. In: dict "context" "subject" "head" "verbs" "suffix". */}}
{{- define "akri-mqtt.secretRoles" -}}
{{- $name := printf "%s-%s" (include "akri-mqtt.clusterName" .context) .suffix -}}
{{- range $namespace, $lists := include "akri-mqtt.secretNamespaces" .context | fromYaml }}
{{- if or $lists.secrets $lists.configMaps }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name | quote }}
  namespace: {{ $namespace | quote }}
  {{- include "akri-mqtt.rbacMetadata" $.head | nindent 2 }}
rules:
  {{- with $lists.secrets }}
  # discoveryProperties refer to Secrets here; a rotated one has to be seen.
  - apiGroups: [""]
    resources: [secrets]
    {{- if not (has "*" .) }}
    resourceNames:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    verbs: [{{ $.verbs }}]
  {{- end }}
  {{- with $lists.configMaps }}
  # discoveryProperties refer to ConfigMaps here.
  - apiGroups: [""]
    resources: [configmaps]
    {{- if not (has "*" .) }}
    resourceNames:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    verbs: [{{ $.verbs }}]
  {{- end }}
---
{{ include "akri-mqtt.roleBinding" (dict "name" $name "namespace" $namespace "subject" $.subject "head" $.head) }}
{{- end }}
{{- end }}
{{- end -}}
