//! What API server and kubelet of the cluster in memory do. In: actions. Out: other objects, and a line about each action.

use super::*;

impl Cluster {
    /// Carries actions out as the API server would. What a plan must never ask for panics.
    pub(super) fn execute(&mut self, actions: Vec<Action>) -> usize {
        let mut writes = 0;
        for action in actions {
            if let Action::Say(notice) = action {
                self.log
                    .push(format!("say {}: {}", notice.reason.as_str(), notice.words));
                self.said.push(notice);
                continue;
            }
            writes += 1;
            let line = self.carry_out(action);
            self.log.push(line);
        }
        writes
    }

    #[allow(clippy::too_many_lines)]
    fn carry_out(&mut self, action: Action) -> String {
        match action {
            Action::ApplyInstance(instance) => self.apply(*instance),
            Action::AnnotateInstance {
                instance,
                name,
                value,
            } => {
                let there = self.instances.get_mut(&*instance.name).unwrap();
                assert_eq!(there.metadata.uid.as_deref(), Some(&*instance.uid));
                let annotations = there.metadata.annotations.get_or_insert_default();
                annotations.insert(name.to_owned(), value);
                format!("annotate {} {name}", instance.name)
            }
            Action::DeleteInstance(instance) => {
                let there = self.instances.remove(&*instance.name).unwrap();
                assert_eq!(there.metadata.uid.as_deref(), Some(&*instance.uid));
                format!("delete instance {}", instance.name)
            }
            Action::CreatePod(pod) => self.create_pod(*pod),
            Action::DeletePod { pod, grace } => self.delete_pod(&pod, grace),
            Action::CreateJob(job) => {
                let (name, job) = self.created(*job);
                assert!(
                    self.jobs
                        .insert(name.clone(), (job, JobState::Active))
                        .is_none()
                );
                format!("create job {name}")
            }
            Action::DeleteJob(job) => {
                let (there, _) = self.jobs.remove(&*job.name).unwrap();
                assert_eq!(there.json["metadata"]["uid"], *job.uid);
                format!("delete job {}", job.name)
            }
            Action::CreateService(service) => {
                let (name, service) = self.created(*service);
                assert!(self.services.insert(name.clone(), service).is_none());
                format!("create service {name}")
            }
            Action::ReplaceService { service, object } => {
                let there = self.services.get_mut(&*service.name).unwrap();
                assert_eq!(there.json["metadata"]["uid"], *service.uid);
                there.json = *object;
                there.json["metadata"]["uid"] = json!(*service.uid);
                format!("replace service {}", service.name)
            }
            Action::DeleteService(service) => {
                let there = self.services.remove(&*service.name).unwrap();
                assert_eq!(there.json["metadata"]["uid"], *service.uid);
                format!("delete service {}", service.name)
            }
            Action::CreateClaim(claim) => {
                let (name, claim) = self.created(*claim);
                assert!(self.claims.insert(name.clone(), claim).is_none());
                format!("create claim {name}")
            }
            Action::AnnotateClaim { claim, annotations } => {
                let there = self.claims.get_mut(&*claim.name).unwrap();
                assert_eq!(there.json["metadata"]["uid"], *claim.uid);
                for (name, value) in annotations {
                    match value {
                        Some(value) => there.json["metadata"]["annotations"][name] = json!(value),
                        None => {
                            let all = there.json["metadata"]["annotations"].as_object_mut();
                            all.unwrap().remove(name);
                        }
                    }
                }
                format!("annotate claim {}", claim.name)
            }
            Action::DeleteClaim(claim) => {
                let there = self.claims.remove(&*claim.name).unwrap();
                assert_eq!(there.json["metadata"]["uid"], *claim.uid);
                format!("delete claim {}", claim.name)
            }
            Action::Say(_) => unreachable!(),
        }
    }

    fn apply(&mut self, mut instance: Instance) -> String {
        let name = instance.metadata.name.clone().unwrap();
        let former = self.instances.get(&name);
        let (uid, job) = match former {
            Some(former) => {
                let annotations = former.metadata.annotations.clone().unwrap_or_default();
                (
                    former.metadata.uid.clone().unwrap(),
                    annotations.get(names::JOB).cloned(),
                )
            }
            None => (self.uid(), None),
        };
        instance.metadata.uid = Some(uid);
        if let Some(job) = job {
            let annotations = instance.metadata.annotations.get_or_insert_default();
            annotations.insert(names::JOB.to_owned(), job);
        }
        self.instances.insert(name.clone(), instance);
        format!("apply {name}")
    }

    fn created(&mut self, mut json: Value) -> (String, Object) {
        let name = json["metadata"]["name"].as_str().unwrap().to_owned();
        json["metadata"]["uid"] = json!(self.uid());
        json["metadata"]["creationTimestamp"] = json!(self.now.wall.to_string());
        (
            name,
            Object {
                json,
                deleting: false,
            },
        )
    }

    fn create_pod(&mut self, pod: Value) -> String {
        let (name, Object { json, .. }) = self.created(pod);
        let pod = Pod {
            json,
            facts: PodFacts {
                node: None,
                phase: Phase::Pending,
                ready: false,
                served: false,
                reason: None,
            },
            deleted_at: None,
        };
        assert!(
            self.pods.insert(name.clone(), pod).is_none(),
            "two pods {name}"
        );
        format!("create pod {name}")
    }

    fn delete_pod(&mut self, pod: &ObjectRef, grace: Option<u32>) -> String {
        let there = self.pods.get_mut(&*pod.name).unwrap();
        assert_eq!(there.json["metadata"]["uid"], *pod.uid);
        if grace == Some(0) {
            self.pods.remove(&*pod.name);
            return format!("force pod {}", pod.name);
        }
        assert_eq!(there.deleted_at, None, "{} is deleted twice", pod.name);
        there.deleted_at = Some(self.now.wall);
        if there.facts.node.is_none() {
            self.pods.remove(&*pod.name);
        }
        format!("delete pod {}", pod.name)
    }

    /// What kubelets and scheduler do in a moment: pods start on the first node that is well, those
    /// with the image `broken` never get ready, and those that are deleted are gone.
    pub(super) fn kubelet(&mut self) -> bool {
        let well = |node: &NodeView| !node.out_of_service && node.unreachable_since.is_none();
        let home = self
            .nodes
            .iter()
            .find(|(_, node)| well(node))
            .map(|(name, _)| name.clone());
        let nodes = &self.nodes;
        let count = self.pods.len();
        self.pods.retain(|_, pod| {
            let node = pod.facts.node.as_ref().and_then(|node| nodes.get(node));
            let kept = pod.facts.node.is_some() && !node.is_some_and(well);
            pod.deleted_at.is_none() || kept
        });
        let mut changed = self.pods.len() != count;
        for pod in self.pods.values_mut() {
            let facts = &mut pod.facts;
            if facts.node.is_none() {
                facts.node.clone_from(&home);
            }
            if facts.node.is_some() && facts.phase == Phase::Pending {
                let broken = pod.json["spec"]["containers"][0]["image"] == "broken";
                facts.ready = !broken;
                facts.served = !broken;
                facts.phase = Phase::Running;
                facts.reason = broken.then(|| "ImagePullBackOff".into());
                changed = true;
            }
        }
        changed
    }
}
