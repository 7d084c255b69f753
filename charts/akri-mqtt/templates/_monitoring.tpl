{{/* Parts of the pods of monitoring brokers: those of devices and those of pools. */}}

{{/* Fails unless what is kept fits where it is kept, and certificates of clients have what they are checked by. In: dict "broker" "volume" (its size, if there is one) "of" (whose it is). */}}
{{- define "akri-mqtt.monitoringRoom" -}}
{{- if and .broker.tls.clientCertificates (not .broker.tls.secretName) -}}
{{- fail (printf "monitoringBroker.tls.clientCertificates needs tls.secretName (%s)" .of) -}}
{{- end -}}
{{- $kept := include "akri-mqtt.bytes" .broker.retainBytes | float64 -}}
{{- if lt $kept 4194304.0 -}}
{{- fail (printf "monitoringBroker.retainBytes: %s is less than 4MiB, the least that the monitoring broker takes (%s)" .broker.retainBytes .of) -}}
{{- end -}}
{{- /* A volume takes the place of the emptyDir. */ -}}
{{- $room := default .broker.dataSizeLimit .volume -}}
{{- if ge $kept (include "akri-mqtt.bytes" $room | float64) -}}
{{- fail (printf "monitoringBroker.retainBytes: %s has to be smaller than %s, which is %s (%s)" .broker.retainBytes (ternary "the volume's size" "dataSizeLimit" (not (empty .volume))) $room .of) -}}
{{- end -}}
{{- end -}}

{{/* The PodSpec, but for the service account.
     In: dict "context" "broker" (monitoringBroker, merged) "credentials" (of the MQTT servers) "volumes" (further ones)
     and, in a pool, "args" "env" "mounts" (further ones) "spread" (unless the values say otherwise) "grace" (seconds at least). */}}
{{- define "akri-mqtt.monitoringPodSpec" -}}
{{- $broker := .broker -}}
{{- $credentials := .credentials -}}
{{- $secrets := list -}}
{{- with $broker.tls.secretName -}}{{- $secrets = append $secrets (dict "name" "tls" "secret" .) -}}{{- end -}}
{{- with $broker.tokens.secretName -}}{{- $secrets = append $secrets (dict "name" "tokens" "secret" .) -}}{{- end -}}
{{- $scheme := ternary "HTTPS" "" (not (empty $broker.tls.secretName)) -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ max (int $broker.terminationGracePeriodSeconds) (default 0 .grace | int) }}
{{- with include "akri-mqtt.placement" (dict "context" .context "with" $broker) }}
{{ . }}
{{- end }}
{{- with default .spread $broker.topologySpreadConstraints }}
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
      {{- if $broker.tls.secretName }}
      - --tls-cert=/var/run/akri-mqtt/tls/tls.crt
      - --tls-key=/var/run/akri-mqtt/tls/tls.key
      {{- if $broker.tls.clientCertificates }}
      - --tls-client-ca=/var/run/akri-mqtt/tls/ca.crt
      {{- end }}
      {{- end }}
      {{- if $broker.tokens.secretName }}
      - --auth-token-file=/var/run/akri-mqtt/tokens/tokens
      {{- end }}
      {{- range concat (default list .args) $broker.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "akri-mqtt.podEnvironment" . | nindent 6 }}
      {{- with concat (default list .env) $broker.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
      - name: grpc
        containerPort: 50051
    livenessProbe:
      {{- include "akri-mqtt.probe" (dict "path" "/livez" "port" "http" "scheme" $scheme "with" $broker.livenessProbe) | nindent 6 }}
    readinessProbe:
      {{- include "akri-mqtt.probe" (dict "path" "/readyz" "port" "http" "scheme" $scheme "with" $broker.readinessProbe) | nindent 6 }}
    resources:
      {{- toYaml $broker.resources | nindent 6 }}
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
      {{- range $secrets }}
      - name: {{ .name }}
        mountPath: /var/run/akri-mqtt/{{ .name }}
        readOnly: true
      {{- end }}
      {{- with concat (default list .mounts) $broker.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- $volumes := concat .volumes $broker.extraVolumes -}}
{{- if or $volumes $credentials $secrets }}
volumes:
  {{- with .volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
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
  {{- range $secrets }}
  - name: {{ .name }}
    secret:
      secretName: {{ .secret | quote }}
      defaultMode: 288 # 0440; JSON has no octal numbers
  {{- end }}
  {{- with $broker.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Who reaches the ports, as rules of a NetworkPolicy. In: context. */}}
{{- define "akri-mqtt.monitoringIngress" -}}
# REST, streams and gRPC.
- ports:
    - port: 8080
      protocol: TCP
    - port: 50051
      protocol: TCP
  {{- with .Values.networkPolicy.monitoringBrokers.from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- $scraped := and .Values.serviceMonitor.enabled .Values.serviceMonitor.monitoringBrokers }}
{{- if and $scraped .Values.networkPolicy.monitoringBrokers.from .Values.networkPolicy.metricsFrom }}
# Metrics, for the PodMonitor.
- ports:
    - port: 8080
      protocol: TCP
  from:
    {{- toYaml .Values.networkPolicy.metricsFrom | nindent 4 }}
{{- end }}
{{- end -}}

{{/* Where and how the Prometheus operator reads metrics of pods, as an endpoint of a PodMonitor. In: dict "context" "tls". */}}
{{- define "akri-mqtt.monitoringEndpoint" -}}
port: http
path: /metrics
interval: {{ .context.Values.serviceMonitor.interval }}
{{- if .tls }}
scheme: https
# The certificate names the Services; a pod is asked by its address.
tlsConfig:
  insecureSkipVerify: true
{{- end }}
{{- end -}}
