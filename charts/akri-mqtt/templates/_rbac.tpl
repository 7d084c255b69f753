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
  name: {{ .name }}
  namespace: {{ .namespace }}
  {{- include "akri-mqtt.rbacMetadata" .head | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - {{ toYaml .subject | nindent 4 | trim }}
{{- end -}}

{{/* Access to what discoveryProperties refer to, in each namespace in which they may. In: dict "context" "subject" "head" "verbs" "suffix". */}}
{{- define "akri-mqtt.secretRoles" -}}
{{- $name := printf "%s-%s" (include "akri-mqtt.clusterName" .context) .suffix -}}
{{- range $namespace, $lists := include "akri-mqtt.secretNamespaces" .context | fromYaml }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  {{- include "akri-mqtt.rbacMetadata" $.head | nindent 2 }}
rules:
  # discoveryProperties refer to Secrets here; a rotated one has to be seen.
  - apiGroups: [""]
    resources: [secrets]
    {{- with $lists.secrets }}
    resourceNames:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    verbs: [{{ $.verbs }}]
  # discoveryProperties refer to ConfigMaps here.
  - apiGroups: [""]
    resources: [configmaps]
    {{- with $lists.configMaps }}
    resourceNames:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    verbs: [{{ $.verbs }}]
---
{{ include "akri-mqtt.roleBinding" (dict "name" $name "namespace" $namespace "subject" $.subject "head" $.head) }}
{{- end }}
{{- end -}}
