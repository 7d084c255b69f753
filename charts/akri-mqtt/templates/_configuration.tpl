{{/* Parts of a Configuration. */}}

{{/* discoveryProperties as a YAML list: those of `credentials`, then the given ones. In: dict "context" "entry" (of `configurations`). */}}
{{- define "akri-mqtt.discoveryProperties" -}}
{{- $properties := list -}}
{{- $namespace := default .context.Release.Namespace .entry.namespace -}}
{{- with .entry.credentials -}}
{{- $credentials := . -}}
{{- range $name := list "MQTT_USERNAME" "MQTT_PASSWORD" "MQTT_CA_CERT" "MQTT_CLIENT_CERT" "MQTT_CLIENT_KEY" -}}
{{- $key := default $name (get (default (dict) $credentials.keys) $name) -}}
{{- /* With its namespace: Akri looks in `default` when there is none. */ -}}
{{- $source := dict "name" $credentials.secretName "namespace" $namespace "key" $key "optional" true -}}
{{- $properties = append $properties (dict "name" $name "valueFrom" (dict "secretKeyRef" $source)) -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $properties (default list .entry.discoveryProperties)) -}}
{{- end -}}

{{/* limits.maxResponseBytes of discoveryDetails, if it can be read here. In: entry of `configurations`. */}}
{{- define "akri-mqtt.responseLimit" -}}
{{- $details := .discoveryDetails -}}
{{- if kindIs "string" $details -}}{{- $details = fromYaml $details -}}{{- end -}}
{{- $limits := get $details "limits" -}}
{{- if kindIs "map" $limits -}}
{{- $limit := get $limits "maxResponseBytes" -}}
{{- if kindIs "float64" $limit -}}{{- $limit = printf "%.0f" $limit -}}{{- end -}}
{{- regexFind "^[0-9]+(B|KiB|MiB|GiB)?$" (toString $limit) -}}
{{- end -}}
{{- end -}}

{{/* A ServiceSpec. In: dict "given" (true, false or a map) "tls" (whether the ports are encrypted). */}}
{{- define "akri-mqtt.serviceSpec" -}}
{{- if kindIs "map" .given -}}
{{- toYaml .given -}}
{{- else -}}
type: ClusterIP
ports:
  - name: {{ ternary "https" "http" (not (empty .tls)) }}
    port: {{ ternary 443 80 (not (empty .tls)) }}
    targetPort: http
    protocol: TCP
  - name: grpc
    port: 50051
    targetPort: grpc
    protocol: TCP
{{- end -}}
{{- end -}}

{{/* The PodSpec of a monitoring broker for a device. In: dict "context" "entry" (of `configurations`). */}}
{{- define "akri-mqtt.monitoringPod" -}}
{{- $broker := mergeOverwrite (deepCopy .context.Values.monitoringBroker) (default (dict) .entry.monitoringBroker) -}}
{{- $resources := deepCopy $broker.resources -}}
{{- if eq .context.Values.mode "akri" -}}
{{- /* Akri's Controller puts the Instance's name here; only then does the kubelet give the pod its variables. */ -}}
{{- $limits := set (default (dict) $resources.limits) "{{PLACEHOLDER}}" "1" -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- $volume := get .entry "dataVolume" | default "" | splitList "," | first -}}
{{- include "akri-mqtt.monitoringRoom" (dict "broker" $broker "volume" $volume "of" (printf "configuration %s" .entry.name)) -}}
{{- with $broker.serviceAccountName -}}
serviceAccountName: {{ . | quote }}
{{ end -}}
{{- $data := dict "name" "data" "emptyDir" (dict "sizeLimit" $broker.dataSizeLimit) -}}
{{- include "akri-mqtt.monitoringPodSpec" (dict "context" .context "broker" (set $broker "resources" $resources) "credentials" .entry.credentials "volumes" (list $data)) -}}
{{- end -}}
