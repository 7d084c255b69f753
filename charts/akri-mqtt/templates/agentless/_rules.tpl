{{/* Rights inside the namespaces whose Configurations are served. In: context. */}}
{{- define "akri-mqtt.namespacedRules" -}}
# Configurations say what to do; they belong to people, so they are only read.
- apiGroups: [akri.sh]
  resources: [configurations]
  verbs: [get, list, watch]
# What is going on is told in their status.
- apiGroups: [akri.sh]
  resources: [configurations/status]
  verbs: [patch]
# An Instance is made for each device and deleted with it.
- apiGroups: [akri.sh]
  resources: [instances]
  verbs: [get, list, watch, create, patch, delete]
# Instances and pods are owned, which clusters with the admission plugin OwnerReferencesPermissionEnforcement allow only to those who could set finalizers.
- apiGroups: [akri.sh]
  resources: [configurations/finalizers, instances/finalizers]
  verbs: [update]
# The pods of brokerPodSpec; one whose template changed is made anew.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
# The Services of instanceServiceSpec and configurationServiceSpec.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, update, delete]
# The volumes that the annotation mqtt.akri.sh/data-volume asks for; patch notes when their device went.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# The jobs of brokerJobSpec.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Events on Configurations and Instances answer "why?".
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
