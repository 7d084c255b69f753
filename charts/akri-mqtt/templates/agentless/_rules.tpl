{{/* Rights inside the namespaces whose Configurations are served. In: context. */}}
{{- define "akri-mqtt.namespacedRules" -}}
# Configurations say what to do; they belong to people, so they are only read.
- apiGroups: [akri.sh]
  resources: [configurations]
  verbs: [get, list, watch]
# What is going on is told in their status.
- apiGroups: [akri.sh]
  resources: [configurations/status]
  verbs: [get, patch, update]
# An Instance is made for each device and deleted with it.
- apiGroups: [akri.sh]
  resources: [instances]
  verbs: [get, list, watch, create, patch, update, delete]
# Instances and pods are owned, which clusters with the admission plugin OwnerReferencesPermissionEnforcement allow only to those who could set finalizers.
- apiGroups: [akri.sh]
  resources: [configurations/finalizers, instances/finalizers]
  verbs: [update]
# The pods of brokerPodSpec, the Services, and the volumes that the annotation mqtt.akri.sh/data-volume asks for.
- apiGroups: [""]
  resources: [pods, services, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, update, delete]
# The jobs of brokerJobSpec.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, update, delete]
# Events on Configurations and Instances answer "why?"; patch counts one that is repeated.
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
