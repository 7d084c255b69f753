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
app.kubernetes.io/name: {{ include "akri-mqtt.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ if eq .Values.mode "akri" }}discovery-handler{{ else }}controller{{ end }}
{{- end -}}

{{/* Labels of every object. In: context. */}}
{{- define "akri-mqtt.labels" -}}
{{- include "akri-mqtt.labelsWith" (dict "context" .) -}}
{{- end -}}

{{/* The same with more of them, each key once; the chart's own win. In: dict "context" "component" "with" (more labels). */}}
{{- define "akri-mqtt.labelsWith" -}}
{{- $own := dict
    "helm.sh/chart" (printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
    "app.kubernetes.io/name" (include "akri-mqtt.name" .context)
    "app.kubernetes.io/instance" .context.Release.Name
    "app.kubernetes.io/version" .context.Chart.AppVersion
    "app.kubernetes.io/managed-by" .context.Release.Service
    "app.kubernetes.io/part-of" "akri-mqtt" -}}
{{- with .component -}}{{- $_ := set $own "app.kubernetes.io/component" . -}}{{- end -}}
{{- toYaml (merge $own (default (dict) .with) .context.Values.commonLabels) -}}
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

{{/* A probe. In: dict "path" "port" "scheme" (unless it is HTTP) "with" (its times). */}}
{{- define "akri-mqtt.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
  {{- with .scheme }}
  scheme: {{ . }}
  {{- end }}
{{ toYaml .with }}
{{- end -}}

{{/* The volume by which a container speaks to the API server, for those containers alone that mount it. */}}
{{- define "akri-mqtt.apiAccess" -}}
name: api-access
projected:
  defaultMode: 292 # 0444; JSON has no octal numbers
  sources:
    - serviceAccountToken:
        path: token
        expirationSeconds: 3600
    - configMap:
        name: kube-root-ca.crt
        items:
          - key: ca.crt
            path: ca.crt
    - downwardAPI:
        items:
          - path: namespace
            fieldRef:
              fieldPath: metadata.namespace
{{- end -}}

{{- define "akri-mqtt.apiAccessMount" -}}
name: api-access
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
readOnly: true
{{- end -}}

{{- define "akri-mqtt.disruptionBudgetVersion" -}}
{{- $current := .Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget" -}}
{{- ternary "policy/v1" "policy/v1beta1" (or $current (semverCompare ">=1.21.0-0" .Capabilities.KubeVersion.Version)) -}}
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

{{/* The namespaces with Secrets and ConfigMaps, as a YAML map from name to {secrets, configMaps}: names, or "*" for all. */}}
{{- define "akri-mqtt.secretNamespaces" -}}
{{- $all := list "*" -}}
{{- $own := .Release.Namespace -}}
{{- $access := .Values.secretAccess -}}
{{- $found := dict $own (dict "secrets" (default $all $access.secrets) "configMaps" (default $all $access.configMaps)) -}}
{{- $seen := dict -}}
{{- range $entry := .Values.secretNamespaces -}}
{{- $namespace := $entry -}}
{{- $lists := dict -}}
{{- if kindIs "map" $entry -}}
{{- $namespace = $entry.namespace -}}
{{- $lists = pick $entry "secrets" "configMaps" -}}
{{- end -}}
{{- if hasKey $seen $namespace -}}
{{- fail (printf "secretNamespaces: %s is there twice" $namespace) -}}
{{- end -}}
{{- $_ := set $seen $namespace true -}}
{{- if and (eq $namespace $own) (or $lists $access.secrets $access.configMaps) -}}
{{- fail (printf "secretNamespaces: %s is the release's own namespace; secretAccess says what is read there" $namespace) -}}
{{- end -}}
{{- if $lists -}}
{{- $_ := set $found $namespace (dict "secrets" (default list $lists.secrets) "configMaps" (default list $lists.configMaps)) -}}
{{- else -}}
{{- $_ := set $found $namespace (dict "secrets" $all "configMaps" $all) -}}
{{- end -}}
{{- end -}}
{{- range $reference := include "akri-mqtt.references" . | fromYamlArray -}}
{{- $lists := get $found $reference.namespace -}}
{{- if $lists -}}
{{- $names := get $lists $reference.list -}}
{{- if not (has "*" $names) -}}
{{- $_ := set $lists $reference.list (append $names $reference.name | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* What `configurations` refer to, as a YAML list of {of, list (of secretAccess), name, namespace}. In: context. */}}
{{- define "akri-mqtt.references" -}}
{{- $references := list -}}
{{- range $entry := .Values.configurations -}}
{{- $namespace := default $.Release.Namespace $entry.namespace -}}
{{- range (include "akri-mqtt.discoveryProperties" (dict "context" $ "entry" $entry) | fromYamlArray) -}}
{{- range $kind, $source := .valueFrom -}}
{{- $in := default (include "akri-mqtt.referenceNamespace" (dict "context" $ "namespace" $namespace)) $source.namespace -}}
{{- $list := ternary "secrets" "configMaps" (eq $kind "secretKeyRef") -}}
{{- $references = append $references (dict "of" (printf "%s/%s" $namespace $entry.name) "list" $list "name" $source.name "namespace" $in) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $references -}}
{{- end -}}

{{/* Where a reference without a namespace points to. In: dict "context" "namespace" (of the Configuration). */}}
{{- define "akri-mqtt.referenceNamespace" -}}
{{- ternary "default" .namespace (eq .context.Values.mode "akri") -}}
{{- end -}}

{{/* Bytes of an amount as programs (256MiB) or Kubernetes (1.5Gi) write it. In: the amount. */}}
{{- define "akri-mqtt.bytes" -}}
{{- $factors := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12
    "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- printf "%.0f" (mulf (float64 $number) (get $factors (trimPrefix $number . | trimSuffix "B"))) -}}
{{- end -}}

{{/* Milliseconds of a duration. In: the duration. */}}
{{- define "akri-mqtt.milliseconds" -}}
{{- $factors := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- mul (int64 $number) (get $factors (trimPrefix $number .)) -}}
{{- end -}}
