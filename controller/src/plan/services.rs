//! The Service of an Instance and the one over all Instances of a Configuration. In: template, what is
//! there, whether there are pods. Out: at most one action.

use serde_json::{Value, json};

use super::action::{About, Action, Notice, Reason};
use super::blueprint::Template;
use super::digest::is_outdated;
use super::memory::Said;
use super::naming::{self, Use};
use super::render::meta::{Meta, object};
use crate::model::ServiceView;
use crate::names;

/// A Service that may be wanted.
pub(super) struct Case<'a> {
    pub(super) about: &'a About,
    /// Its metadata, without annotations.
    pub(super) namespace: &'a std::sync::Arc<str>,
    pub(super) name: &'a str,
    pub(super) labels: &'a [(&'static str, &'a str)],
    /// The label that selects its pods, as Akri does it.
    pub(super) selector: (&'static str, &'a str),
    pub(super) owner: Value,
    pub(super) owner_uid: &'a str,
    pub(super) template: Option<&'a Template>,
    pub(super) exists: Option<&'a ServiceView>,
    /// Whether there is a pod.
    pub(super) pods: bool,
    /// Whether one that exists may stay although there is no pod now.
    pub(super) stays: bool,
}

impl Case<'_> {
    /// Decides.
    pub(super) fn decide(&self, said: &mut Said, actions: &mut Vec<Action>) {
        let wanted = self.template.filter(|_| self.pods || self.stays);
        let Some(there) = self.exists else {
            if let Some(template) = wanted.filter(|_| self.pods) {
                self.create(template, said, actions);
            }
            return;
        };
        let reference = object(self.namespace, &there.name, &there.uid);
        let its_own = there.owner.as_deref() == Some(self.owner_uid);
        if there.deleting {
            return;
        }
        match wanted {
            // Someone else's.
            _ if !there.ours && !its_own => {
                if wanted.is_some() {
                    let words = format!(
                        "Service `{}` exists and belongs to another owner",
                        self.name
                    );
                    said.say(
                        actions,
                        self.name,
                        Notice::new(self.about, Reason::NameTaken, words),
                    );
                }
            }
            // Akri's, or that of a former owner of this name.
            _ if !there.ours || !its_own => actions.push(Action::DeleteService(reference)),
            None => actions.push(Action::DeleteService(reference)),
            Some(template) if is_outdated(there.template.as_deref(), &template.digest) => {
                actions.push(Action::ReplaceService {
                    service: reference,
                    object: Box::new(self.render(template)),
                });
            }
            Some(_) => {}
        }
    }

    fn create(&self, template: &Template, said: &mut Said, actions: &mut Vec<Action>) {
        match naming::check(self.name, Use::Service) {
            Ok(()) => actions.push(Action::CreateService(Box::new(self.render(template)))),
            Err(why) => said.say(
                actions,
                self.name,
                Notice::new(self.about, Reason::InvalidName, why),
            ),
        }
    }

    fn render(&self, template: &Template) -> Value {
        let mut spec = template.spec.clone();
        let (label, value) = self.selector;
        spec.insert("selector".to_owned(), json!({label: value}));
        let meta = Meta {
            namespace: self.namespace,
            name: self.name,
            labels: self.labels,
            annotations: &[(names::TEMPLATE, &template.digest)],
            owner: Some(self.owner.clone()),
        };
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta.json(), "spec": spec})
    }
}
