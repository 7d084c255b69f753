{{/* Names, labels, images and other parts that several objects share. */}}

{{- define "akri-mqtt.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Room for suffixes: the longest is "-controller". */}}
{{- define "akri-mqtt.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "akri-mqtt.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "akri-mqtt.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace, so that two releases can stand side by side. */}}
{{- define "akri-mqtt.clusterName" -}}
{{- printf "%s-%s" (include "akri-mqtt.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "akri-mqtt.webhookName" -}}
{{- printf "%s-webhook" (include "akri-mqtt.fullname" .) -}}
{{- end -}}

{{- define "akri-mqtt.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "akri-mqtt.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels by which a Deployment, DaemonSet or Service finds its pods; they never change. In: context. */}}
{{- define "akri-mqtt.selector" -}}
app.kubernetes.io/name: {{ include "akri-mqtt.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ if eq .Values.mode "akri" }}discovery-handler{{ else }}controller{{ end }}
{{- end -}}

{{/* Labels of every object. In: context. */}}
{{- define "akri-mqtt.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "akri-mqtt.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: akri-mqtt
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The annotations line and block of an object. In: dict "context" "with" (more annotations). */}}
{{- define "akri-mqtt.annotations" -}}
{{- $all := merge (dict) (default (dict) .with) .context.Values.commonAnnotations -}}
{{- with $all -}}
annotations:
{{ toYaml . | indent 2 }}
{{- end -}}
{{- end -}}

{{/* An image's name. In: dict "context" "image". */}}
{{- define "akri-mqtt.image" -}}
{{- $registry := default .context.Values.image.registry .image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (coalesce .image.tag .context.Values.image.tag .context.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The cluster's part of MQTT client ids; empty if nobody knows it. */}}
{{- define "akri-mqtt.cluster" -}}
{{- if .Values.clusterId -}}
{{- .Values.clusterId -}}
{{- else if .Values.lookup -}}
{{- $system := lookup "v1" "Namespace" "" "kube-system" -}}
{{- if $system -}}{{- $system.metadata.uid | trunc 8 -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables of every container of ours: who and where it is. */}}
{{- define "akri-mqtt.podEnvironment" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end -}}

{{/* A probe. In: dict "path" "port" "with" (its times). */}}
{{- define "akri-mqtt.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
{{ toYaml .with }}
{{- end -}}

{{/* What a container may do: nothing beyond "restricted", and no writing to its root. */}}
{{- define "akri-mqtt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods run, with which priority, and who pulls their images. In: dict "context" "with" (the values with these keys). */}}
{{- define "akri-mqtt.placement" -}}
{{- $spec := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" -}}
{{- with get $.with $key -}}{{- $_ := set $spec $key . -}}{{- end -}}
{{- end -}}
{{- range .context.Values.imagePullSecrets -}}
{{- $_ := set $spec "imagePullSecrets" (append (default list $spec.imagePullSecrets) (dict "name" .)) -}}
{{- end -}}
{{- with $spec -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* The namespaces with Secrets and ConfigMaps, as a YAML map from name to {secrets, configMaps}; empty lists mean all. */}}
{{- define "akri-mqtt.secretNamespaces" -}}
{{- $found := dict .Release.Namespace (dict "secrets" .Values.secretAccess.secrets "configMaps" .Values.secretAccess.configMaps) -}}
{{- range .Values.secretNamespaces -}}
{{- if kindIs "string" . -}}
{{- $_ := set $found . (dict "secrets" list "configMaps" list) -}}
{{- else -}}
{{- $_ := set $found .namespace (dict "secrets" (default list .secrets) "configMaps" (default list .configMaps)) -}}
{{- end -}}
{{- end -}}
{{- range $configuration := .Values.configurations -}}
{{- range (include "akri-mqtt.discoveryProperties" (dict "context" $ "entry" $configuration) | fromYamlArray) -}}
{{- range $kind, $source := .valueFrom -}}
{{- $namespace := default (default $.Release.Namespace $configuration.namespace) $source.namespace -}}
{{- $lists := get $found $namespace -}}
{{- if $lists -}}
{{- $key := ternary "secrets" "configMaps" (eq $kind "secretKeyRef") -}}
{{- if get $lists $key -}}
{{- $_ := set $lists $key (append (get $lists $key) $source.name | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
