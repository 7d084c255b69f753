{{/* A further discovery handler: the container as it is given, with what every one needs. In: the container. */}}
{{- define "akri-mqtt.extraHandler" -}}
{{- $environment := list
    (dict "name" "DISCOVERY_HANDLERS_DIRECTORY" "value" "/var/lib/akri")
    (dict "name" "AGENT_NODE_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "spec.nodeName")))
    (dict "name" "POD_IP" "valueFrom" (dict "fieldRef" (dict "fieldPath" "status.podIP"))) -}}
{{- $mounts := list (dict "name" "sockets" "mountPath" "/var/lib/akri") -}}
{{- $security := dict
    "allowPrivilegeEscalation" false
    "readOnlyRootFilesystem" true
    "capabilities" (dict "drop" (list "ALL")) -}}
{{- $container := deepCopy . -}}
{{- $_ := set $container "env" (concat $environment (default list .env)) -}}
{{- $_ := set $container "volumeMounts" (concat $mounts (default list .volumeMounts)) -}}
{{- $_ := set $container "securityContext" (merge (default (dict) $container.securityContext) $security) -}}
{{- toYaml $container -}}
{{- end -}}
