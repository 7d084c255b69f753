{{/* Fails if another agentless release would serve the same Configurations: each would undo what the other one does. In: context. */}}
{{- define "akri-mqtt.refuseRivals" -}}
{{- if .Values.lookup -}}
{{- $own := printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- $served := .Values.controller.namespaces -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := default (dict) .metadata.labels -}}
{{- $ours := and (eq (get $labels "app.kubernetes.io/part-of") "akri-mqtt") (eq (get $labels "app.kubernetes.io/component") "controller") -}}
{{- $release := printf "%s/%s" .metadata.namespace (get $labels "app.kubernetes.io/instance") -}}
{{- if and $ours (ne $release $own) -}}
{{- $theirs := list -}}
{{- range .spec.template.spec.containers -}}
{{- range .args -}}
{{- if hasPrefix "--namespace=" . -}}{{- $theirs = concat $theirs (trimPrefix "--namespace=" . | splitList ",") -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $both := list -}}
{{- range $theirs -}}{{- if has . $served -}}{{- $both = append $both . -}}{{- end -}}{{- end -}}
{{- if or $both (not $theirs) (not $served) -}}
{{- fail (printf "mode agentless: the controller of release %s serves %s; two controllers would undo each other's work: uninstall it, or give both releases controller.namespaces without a namespace in common" $release (ternary (join ", " $both) "the same namespaces" (not (empty $both)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
