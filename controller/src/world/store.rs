//! The observed objects of one kind, by namespace and name. In: what watches list and report, and
//! what the API server answered to our own writes. Out: lookups, and whether anything has changed.
//! What a change leads to is left to the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Deleted objects that are remembered by uid and version. An answer to a write is looked at at once,
/// so that few deletions can overtake it.
const GRAVES: usize = 1_024;

/// An object as it was observed.
#[derive(Clone, Debug)]
pub struct Observed<V> {
    /// Its namespace; empty for what has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its `resourceVersion` as a number, 0 where it is none: such objects are always news.
    pub version: u64,
    /// The Instance that it says it belongs to.
    pub instance: Option<Arc<str>>,
    /// The Configuration that it says it belongs to.
    pub configuration: Option<Arc<str>>,
    /// What is kept of it.
    pub view: V,
}

/// All of one kind.
#[derive(Debug)]
pub struct Store<V> {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Observed<V>>>,
    /// What has been listed so far, for each list that is under way.
    listed: BTreeMap<Scope, Names>,
    graves: VecDeque<(Arc<str>, u64)>,
    length: usize,
}

/// Namespaces and names.
type Names = BTreeSet<(Arc<str>, Arc<str>)>;

/// What one watch covers: a namespace, or everything.
pub type Scope = Option<Arc<str>>;

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self {
            by_namespace: BTreeMap::new(),
            listed: BTreeMap::new(),
            graves: VecDeque::new(),
            length: 0,
        }
    }
}

impl<V: PartialEq> Store<V> {
    /// A list of `scope` begins; what it lacks is gone when it ends.
    pub fn begin(&mut self, scope: &Scope) {
        self.listed.insert(scope.clone(), BTreeSet::new());
    }

    /// A list of `scope` has ended: removes and returns what it lacks.
    pub fn end(&mut self, scope: &Scope) -> Vec<Observed<V>> {
        let Some(listed) = self.listed.remove(scope) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        for (namespace, objects) in &mut self.by_namespace {
            if scope.as_ref().is_some_and(|scope| scope != namespace) {
                continue;
            }
            let names: Vec<Arc<str>> = objects
                .keys()
                .filter(|name| !listed.contains(&(Arc::clone(namespace), Arc::clone(name))))
                .cloned()
                .collect();
            gone.extend(names.iter().filter_map(|name| objects.remove(name)));
        }
        self.length = self.length.saturating_sub(gone.len());
        gone
    }

    /// A watch has reported an object, or an answer has. Returns whether anything that is kept has
    /// changed.
    pub fn put(&mut self, mut object: Observed<V>) -> bool {
        // A newer one is back: it had lost the label by which it is watched.
        let dead = |(uid, version): &(Arc<str>, u64)| {
            *uid == object.uid && (object.version == 0 || object.version <= *version)
        };
        if self.graves.iter().any(dead) {
            return false;
        }
        self.mark(&object.namespace, &object.name);
        if let Some((namespace, _)) = self.by_namespace.get_key_value(&object.namespace) {
            object.namespace = Arc::clone(namespace);
        }
        let objects = self
            .by_namespace
            .entry(Arc::clone(&object.namespace))
            .or_default();
        match objects.get_mut(&object.name) {
            Some(known) if known.uid == object.uid && is_older(object.version, known.version) => {
                false
            }
            Some(known) => {
                let changed = known.uid != object.uid
                    || known.view != object.view
                    || known.instance != object.instance
                    || known.configuration != object.configuration;
                object.name = Arc::clone(&known.name);
                *known = object;
                changed
            }
            None => {
                objects.insert(Arc::clone(&object.name), object);
                self.length = self.length.saturating_add(1);
                true
            }
        }
    }

    /// An object is gone as of this version: removes and returns it, unless its name belongs to another one by now.
    pub fn remove(
        &mut self,
        namespace: &str,
        name: &str,
        (uid, version): (&str, u64),
    ) -> Option<Observed<V>> {
        if self.graves.len() >= GRAVES {
            self.graves.pop_front();
        }
        self.graves.push_back((uid.into(), version));
        let objects = self.by_namespace.get_mut(namespace)?;
        if objects.get(name)?.uid.as_ref() != uid {
            return None;
        }
        let object = objects.remove(name);
        if objects.is_empty() {
            self.by_namespace.remove(namespace);
        }
        self.length = self.length.saturating_sub(1);
        object
    }
}

impl<V> Store<V> {
    /// The lists that are under way have this object.
    pub fn mark(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        for (scope, listed) in &mut self.listed {
            if scope.as_ref().is_none_or(|scope| scope == namespace) {
                listed.insert((Arc::clone(namespace), Arc::clone(name)));
            }
        }
    }

    /// The object of this name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Observed<V>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// The objects of a namespace whose names begin with `prefix`, sorted.
    pub fn starting_with<'a, 'b>(
        &'a self,
        namespace: &str,
        prefix: &'b str,
    ) -> impl Iterator<Item = &'a Observed<V>> + use<'a, 'b, V> {
        let objects = self.by_namespace.get(namespace);
        objects.into_iter().flat_map(move |objects| {
            let from = std::ops::Bound::Included(prefix);
            objects
                .range::<str, _>((from, std::ops::Bound::Unbounded))
                .map(|(_, object)| object)
                .take_while(move |object| object.name.starts_with(prefix))
        })
    }

    /// All objects, sorted by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Observed<V>> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    /// Those of one scope.
    pub fn within(&self, scope: &Scope) -> impl Iterator<Item = &Observed<V>> {
        let here = |namespace: &Arc<str>| scope.as_ref().is_none_or(|scope| scope == namespace);
        let namespaces = self.by_namespace.iter();
        namespaces
            .filter(move |(namespace, _)| here(namespace))
            .flat_map(|(_, objects)| objects.values())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

fn is_older(version: u64, than: u64) -> bool {
    version != 0 && version < than
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, name: &str, uid: &str, version: u64) -> Observed<u8> {
        Observed {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            version,
            instance: None,
            configuration: None,
            view: u8::try_from(version % 10).unwrap(),
        }
    }

    fn names(store: &Store<u8>) -> Vec<String> {
        store
            .iter()
            .map(|object| format!("{}/{}", object.namespace, object.name))
            .collect()
    }

    #[test]
    fn what_a_list_has_but_cannot_be_read_stays() {
        let mut store = Store::default();
        store.put(object("a", "1", "u", 5));
        store.begin(&None);
        store.mark(&"a".into(), &"1".into());
        assert!(store.end(&None).is_empty());
        assert_eq!(names(&store), ["a/1"]);
    }

    #[test]
    fn what_a_list_lacks_is_gone_but_only_where_it_looked() {
        let mut store = Store::default();
        for (namespace, name) in [("a", "1"), ("a", "2"), ("b", "1")] {
            assert!(store.put(object(namespace, name, name, 5)));
        }
        let scope = Some("a".into());
        store.begin(&scope);
        assert!(!store.put(object("a", "2", "2", 5)));
        let gone = store.end(&scope);
        assert_eq!(gone.len(), 1);
        assert_eq!(names(&store), ["a/2", "b/1"]);
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn object_that_was_made_while_a_list_was_under_way_stays() {
        let mut store = Store::default();
        store.begin(&None);
        store.put(object("a", "new", "u", 9));
        assert!(store.end(&None).is_empty());
        assert_eq!(names(&store), ["a/new"]);
    }

    #[test]
    fn late_answer_does_not_bring_a_deleted_object_back() {
        let mut store = Store::default();
        assert!(store.put(object("a", "p", "old", 5)));
        assert!(store.remove("a", "p", ("old", 9)).is_some());
        assert!(!store.put(object("a", "p", "old", 4)));
        assert!(store.is_empty());
        assert!(store.put(object("a", "p", "new", 6)));
        assert!(store.remove("a", "p", ("old", 9)).is_none());
        assert_eq!(names(&store), ["a/p"]);
    }

    #[test]
    fn object_that_gets_its_label_back_is_seen_again() {
        let mut store = Store::default();
        store.put(object("a", "p", "u", 5));
        store.remove("a", "p", ("u", 6));
        assert!(store.put(object("a", "p", "u", 7)));
        assert_eq!(names(&store), ["a/p"]);
    }

    #[test]
    fn older_version_does_not_replace_a_newer_one() {
        let mut store = Store::default();
        store.put(object("a", "p", "u", 7));
        assert!(!store.put(object("a", "p", "u", 6)));
        assert_eq!(store.get("a", "p").unwrap().view, 7);
        assert!(!store.put(object("a", "p", "u", 17)));
        assert!(store.put(object("a", "p", "u", 18)));
    }

    #[test]
    fn names_are_found_by_their_beginning() {
        let mut store = Store::default();
        for name in ["c-1", "c-1-0", "c-1-1", "c-10-0", "c-2-0"] {
            store.put(object("a", name, name, 1));
        }
        let found: Vec<_> = store.starting_with("a", "c-1-").map(|o| &*o.name).collect();
        assert_eq!(found, ["c-1-0", "c-1-1"]);
        assert_eq!(store.starting_with("b", "c").count(), 0);
    }
}
