{{/* Parts of pools. */}}

{{/* The entries of `pools` with what poolDefaults give them, each with its namespace, as a YAML list. In: context. */}}
{{- define "akri-mqtt.pools" -}}
{{- $pools := list -}}
{{- $seen := dict -}}
{{- range $entry := .Values.pools -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy $entry) -}}
{{- $_ := set $pool "namespace" (default $.Release.Namespace $entry.namespace) -}}
{{- $of := printf "pools: %s/%s" $pool.namespace $pool.name -}}
{{- range $configuration := $.Values.configurations -}}
{{- $same := and (eq $configuration.name $pool.configuration) (eq (default $.Release.Namespace $configuration.namespace) $pool.namespace) -}}
{{- if and $same (not $pool.credentials) -}}{{- $_ := set $pool "credentials" $configuration.credentials -}}{{- end -}}
{{- end -}}
{{- $only := $.Values.controller.namespaces -}}
{{- if and (eq $.Values.mode "agentless") $only (not (has $pool.namespace $only)) -}}
{{- fail (printf "%s: the controller serves %s only; add %s to controller.namespaces" $of (join ", " $only) $pool.namespace) -}}
{{- end -}}
{{- $served := printf "Configuration %s of namespace %s" $pool.configuration $pool.namespace -}}
{{- range $what := list (printf "%s/%s" $pool.namespace $pool.name) $served -}}
{{- if hasKey $seen $what -}}{{- fail (printf "%s: %s has a pool already" $of $what) -}}{{- end -}}
{{- $_ := set $seen $what true -}}
{{- end -}}
{{- $account := eq $pool.name (include "akri-mqtt.serviceAccountName" $) -}}
{{- if and (eq $pool.namespace $.Release.Namespace) (or $account (eq $pool.name (include "akri-mqtt.fullname" $))) -}}
{{- fail (printf "%s: the release itself has objects of that name; choose another one" $of) -}}
{{- end -}}
{{- if and $pool.autoscaling.enabled (lt (int $pool.autoscaling.maxReplicas) (int $pool.autoscaling.minReplicas)) -}}
{{- fail (printf "%s: autoscaling.maxReplicas is less than minReplicas" $of) -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* The pool of an entry of `configurations`, as YAML; nothing if it has none. In: dict "context" "entry". */}}
{{- define "akri-mqtt.poolOf" -}}
{{- $namespace := default .context.Release.Namespace .entry.namespace -}}
{{- range include "akri-mqtt.pools" .context | fromYamlArray -}}
{{- if and (eq .configuration $.entry.name) (eq .namespace $namespace) -}}{{- toYaml . -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* What tells the members of a pool from all other pods; it never changes. In: dict "context" "pool". */}}
{{- define "akri-mqtt.poolSelector" -}}
app.kubernetes.io/name: {{ include "akri-mqtt.name" .context | quote }}
app.kubernetes.io/instance: {{ .context.Release.Name | quote }}
app.kubernetes.io/component: pool
mqtt.akri.sh/pool: {{ .pool.configuration | quote }}
{{- end -}}

{{/* metadata of an object of a pool. In: dict "context" "pool" and, where they are others, "name" and "annotations". */}}
{{- define "akri-mqtt.poolMetadata" -}}
name: {{ default .pool.name .name | quote }}
namespace: {{ .pool.namespace | quote }}
labels:
  {{- include "akri-mqtt.poolLabels" . | nindent 2 }}
{{- with include "akri-mqtt.annotations" (dict "context" .context "with" .annotations) }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object of a pool. In: dict "context" "pool" and "with" (more of them). */}}
{{- define "akri-mqtt.poolLabels" -}}
{{- $with := merge (dict "mqtt.akri.sh/pool" .pool.configuration) (default (dict) .with) -}}
{{- include "akri-mqtt.labelsWith" (dict "context" .context "component" "pool" "with" $with) -}}
{{- end -}}

{{/* The service account of a pool. In: pool. */}}
{{- define "akri-mqtt.poolAccount" -}}
{{- default .name .serviceAccountName -}}
{{- end -}}

{{/* The PodSpec of a member. In: dict "context" "pool". */}}
{{- define "akri-mqtt.poolPod" -}}
{{- $pool := .pool -}}
{{- $broker := mergeOverwrite (deepCopy .context.Values.monitoringBroker) $pool.monitoringBroker -}}
{{- $of := printf "pool %s" $pool.name -}}
{{- include "akri-mqtt.monitoringRoom" (dict "broker" $broker "volume" (ternary $pool.persistence.size "" $pool.persistence.enabled) "of" $of) -}}
{{- $volumes := list (include "akri-mqtt.apiAccess" . | fromYaml) -}}
{{- if not $pool.persistence.enabled -}}
{{- $volumes = prepend $volumes (dict "name" "data" "emptyDir" (dict "sizeLimit" $broker.dataSizeLimit)) -}}
{{- end -}}
{{- $args := list (printf "--pool=%s" $pool.configuration) (printf "--shards=%d" (int $pool.shards)) (printf "--drain-timeout=%s" $pool.drainTimeout) -}}
{{- with $pool.sinks -}}{{- $args = append $args (printf "--sink=%s" (join " " .)) -}}{{- end -}}
{{- $env := list -}}
{{- range $name, $path := dict "POD_UID" "metadata.uid" "POD_IP" "status.podIP" -}}
{{- $env = append $env (dict "name" $name "valueFrom" (dict "fieldRef" (dict "fieldPath" $path))) -}}
{{- end -}}
{{- if $broker.tls.secretName -}}
{{- /* A certificate names no addresses: members are told each other's names, and trust the authority that it is from. */ -}}
{{- $name := printf "$(POD_NAME).%s-members.$(POD_NAMESPACE).svc:50051" $pool.name -}}
{{- $env = append $env (dict "name" "AKRI_MQTT_ADVERTISE" "value" $name) -}}
{{- $env = append $env (dict "name" "AKRI_MQTT_PEER_CA" "value" "/var/run/akri-mqtt/tls/ca.crt") -}}
{{- end -}}
{{- with include "akri-mqtt.cluster" .context -}}{{- $env = append $env (dict "name" "AKRI_MQTT_CLUSTER" "value" .) -}}{{- end -}}
{{- $selector := include "akri-mqtt.poolSelector" . | fromYaml -}}
{{- $spread := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" $selector) -}}
{{- /* A member that is stopped hands its shards over and empties its sinks; half a minute is for what comes before and after. */ -}}
{{- $grace := add 30 (ceil (divf (include "akri-mqtt.milliseconds" $pool.drainTimeout | float64) 1000.0)) -}}
serviceAccountName: {{ include "akri-mqtt.poolAccount" $pool | quote }}
{{ include "akri-mqtt.monitoringPodSpec" (dict "context" .context "broker" $broker "credentials" $pool.credentials
    "volumes" $volumes "args" $args "env" $env "mounts" (list (include "akri-mqtt.apiAccessMount" . | fromYaml)) "spread" (list $spread) "grace" $grace) }}
{{- end -}}
