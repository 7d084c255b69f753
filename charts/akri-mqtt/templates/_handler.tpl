{{/* The container of the discovery handler.
     In: dict "context", "name", "port" of its admin server, "args" that the mode adds, "stateDirectory", "volumes" (state, sockets). */}}
{{- define "akri-mqtt.handlerContainer" -}}
{{- $handler := .context.Values.discoveryHandler -}}
name: {{ .name | quote }}
image: {{ include "akri-mqtt.image" (dict "context" .context "image" $handler.image) }}
imagePullPolicy: {{ .context.Values.image.pullPolicy }}
args:
  - --name={{ $handler.name }}
  - --directory=/var/lib/akri
  - --state-dir=/var/lib/akri-mqtt
  - --admin=0.0.0.0:{{ .port }}
  - --log-format={{ $handler.logFormat }}
  {{- range .args }}
  - {{ . }}
  {{- end }}
  {{- if $handler.credentials.secretName }}
  - --credentials-dir=/var/run/akri-mqtt/credentials
  {{- with $handler.credentials.hosts }}
  - --credentials-hosts={{ join "," . }}
  {{- end }}
  {{- end }}
  {{- if $handler.shortClientId }}
  - --short-client-id
  {{- end }}
  {{- range $handler.extraArgs }}
  - {{ . | quote }}
  {{- end }}
env:
  {{- include "akri-mqtt.podEnvironment" . | nindent 2 }}
  - name: AKRI_MQTT_NODE
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- with include "akri-mqtt.cluster" .context }}
  - name: AKRI_MQTT_CLUSTER
    value: {{ . | quote }}
  {{- end }}
  - name: RUST_LOG
    value: {{ $handler.logLevel | quote }}
  {{- with $handler.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: {{ .portName | quote }}
    containerPort: {{ .port }}
livenessProbe:
  {{- include "akri-mqtt.probe" (dict "path" "/livez" "port" .portName "with" $handler.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "akri-mqtt.probe" (dict "path" "/readyz" "port" .portName "with" $handler.readinessProbe) | nindent 2 }}
resources:
  {{- toYaml $handler.resources | nindent 2 }}
securityContext:
  {{- include "akri-mqtt.containerSecurity" . | nindent 2 }}
volumeMounts:
  - name: sockets
    mountPath: /var/lib/akri
  - name: handler-state
    mountPath: /var/lib/akri-mqtt
  {{- if $handler.credentials.secretName }}
  - name: handler-credentials
    mountPath: /var/run/akri-mqtt/credentials
    readOnly: true
  {{- end }}
  {{- with $handler.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Volumes that both modes have. In: context. */}}
{{- define "akri-mqtt.handlerVolumes" -}}
{{- with .Values.discoveryHandler.credentials.secretName }}
- name: handler-credentials
  secret:
    secretName: {{ . | quote }}
    defaultMode: 288 # 0440; JSON has no octal numbers
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
