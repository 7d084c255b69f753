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

{{/* A ServiceSpec. In: dict "given" (true, false or a map). */}}
{{- define "akri-mqtt.serviceSpec" -}}
{{- if kindIs "map" .given -}}
{{- toYaml .given -}}
{{- else -}}
type: ClusterIP
ports:
  - name: http
    port: 80
    targetPort: http
    protocol: TCP
  - name: grpc
    port: 50051
    targetPort: grpc
    protocol: TCP
{{- end -}}
{{- end -}}

{{/* The PodSpec of a monitoring broker. In: dict "context" "entry" (of `configurations`). */}}
{{- define "akri-mqtt.monitoringPod" -}}
{{- $broker := mergeOverwrite (deepCopy .context.Values.monitoringBroker) (default (dict) .entry.monitoringBroker) -}}
{{- $credentials := .entry.credentials -}}
{{- $kept := include "akri-mqtt.bytes" $broker.retainBytes | float64 -}}
{{- if lt $kept 4194304.0 -}}
{{- fail (printf "monitoringBroker.retainBytes: %s is less than 4MiB, the least that the monitoring broker takes (configuration %s)" $broker.retainBytes .entry.name) -}}
{{- end -}}
{{- /* A volume takes the place of the emptyDir. */ -}}
{{- $room := splitList "," (default $broker.dataSizeLimit .entry.dataVolume) | first -}}
{{- if ge $kept (include "akri-mqtt.bytes" $room | float64) -}}
{{- fail (printf "monitoringBroker.retainBytes: %s has to be smaller than %s, which is %s (configuration %s)" $broker.retainBytes (ternary "the volume's size" "dataSizeLimit" (not (empty .entry.dataVolume))) $room .entry.name) -}}
{{- end -}}
{{- with $broker.serviceAccountName -}}
serviceAccountName: {{ . | quote }}
{{ end -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $broker.terminationGracePeriodSeconds }}
{{- with include "akri-mqtt.placement" (dict "context" .context "with" $broker) }}
{{ . }}
{{- end }}
{{- with $broker.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $broker.podSecurityContext | nindent 2 }}
containers:
  - name: monitoring-broker
    image: {{ include "akri-mqtt.image" (dict "context" .context "image" $broker.image) }}
    imagePullPolicy: {{ .context.Values.image.pullPolicy }}
    args:
      - --http=0.0.0.0:8080
      - --grpc=0.0.0.0:50051
      - --data-dir=/var/lib/akri-mqtt
      - --retain-for={{ $broker.retainFor }}
      - --retain-bytes={{ $broker.retainBytes }}
      - --log-format={{ $broker.logFormat }}
      {{- if $credentials }}
      - --credentials-dir=/var/run/akri-mqtt/credentials
      {{- end }}
      {{- range $broker.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "akri-mqtt.podEnvironment" . | nindent 6 }}
      {{- with $broker.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
      - name: grpc
        containerPort: 50051
    livenessProbe:
      {{- include "akri-mqtt.probe" (dict "path" "/livez" "port" "http" "with" $broker.livenessProbe) | nindent 6 }}
    readinessProbe:
      {{- include "akri-mqtt.probe" (dict "path" "/readyz" "port" "http" "with" $broker.readinessProbe) | nindent 6 }}
    resources:
      {{- $resources := deepCopy $broker.resources -}}
      {{- if eq .context.Values.mode "akri" -}}
      {{- /* Akri's Controller puts the Instance's name here; only then does the kubelet give the pod its variables. */ -}}
      {{- $limits := set (default (dict) $resources.limits) "{{PLACEHOLDER}}" "1" -}}
      {{- $_ := set $resources "limits" $limits -}}
      {{- end }}
      {{- toYaml $resources | nindent 6 }}
    securityContext:
      {{- toYaml $broker.securityContext | nindent 6 }}
    volumeMounts:
      - name: data
        mountPath: /var/lib/akri-mqtt
      {{- if $credentials }}
      - name: credentials
        mountPath: /var/run/akri-mqtt/credentials
        readOnly: true
      {{- end }}
      {{- with $broker.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: data
    emptyDir:
      sizeLimit: {{ $broker.dataSizeLimit | quote }}
  {{- with $credentials }}
  - name: credentials
    secret:
      secretName: {{ .secretName | quote }}
      optional: true
      defaultMode: 288 # 0440; JSON has no octal numbers
      {{- with .keys }}
      items:
        {{- $keys := . }}
        {{- range $name := list "MQTT_USERNAME" "MQTT_PASSWORD" "MQTT_CA_CERT" "MQTT_CLIENT_CERT" "MQTT_CLIENT_KEY" }}
        - key: {{ default $name (get $keys $name) | quote }}
          path: {{ $name }}
        {{- end }}
      {{- end }}
  {{- end }}
  {{- with $broker.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
