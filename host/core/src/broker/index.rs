//! The subscription index: a trie over topic levels.
//!
//! Levels are interned, nodes live in an arena, and all edges in one map from (node, level) to
//! node: a filter that nobody shares costs a node, an edge and its own level's text. Matching a
//! name walks all branches at once, level by level, without recursion: its cost grows with the
//! depth of the name and the branches that match, not with the number of subscriptions.

use super::share::Group;
use super::{Inbox, Route, Target};
use crate::message::SubscriptionId;
use crate::packet::SubscribeOptions;
use crate::topic::{TopicFilter, TopicName};
use ahash::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Position of a receiver; reused after [`Index::release`].
pub(super) type Slot = u32;

type Node = u32;
type Level = u32;

const ROOT: Node = 0;

/// The root is nobody's child, so its number stands for "no node".
const NONE: Node = ROOT;

/// `+` and `#` are no levels of names; their edges are fields of the node.
#[derive(Default)]
struct NodeData {
    parent: Node,
    step: Step,
    plus: Node,
    hash: Node,
    /// Children by level, `plus` and `hash` counted too.
    children: u32,
    /// Most nodes have none or one.
    subscriptions: SmallVec<[Subscription; 1]>,
    /// Shared subscriptions; boxed, because few nodes have any.
    #[allow(clippy::box_collection, reason = "a node without groups is to be small")]
    groups: Option<Box<Vec<Arc<Group>>>>,
}

impl NodeData {
    fn is_unused(&self) -> bool {
        self.children == 0 && self.subscriptions.is_empty() && self.groups.is_none()
    }

    fn group(&self, filter: &TopicFilter) -> Option<&Arc<Group>> {
        self.groups.iter().flat_map(|groups| groups.iter()).find(|it| it.filter == *filter)
    }
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Plus,
    Hash,
    Level(Level),
}

#[derive(Clone, Copy)]
struct Subscription {
    slot: Slot,
    options: SubscribeOptions,
    id: Option<SubscriptionId>,
}

struct Interned {
    level: Level,
    uses: u32,
}

pub(super) struct Index {
    nodes: Vec<NodeData>,
    free_nodes: Vec<Node>,
    edges: HashMap<(Node, Level), Node, RandomState>,
    levels: HashMap<Arc<str>, Interned, RandomState>,
    /// Text of each level, to find its entry when it goes.
    texts: Vec<Arc<str>>,
    free_levels: Vec<Level>,
    receivers: Vec<Option<Arc<dyn Inbox>>>,
    free_slots: Vec<Slot>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            nodes: vec![NodeData::default()],
            free_nodes: Vec::new(),
            edges: HashMap::default(),
            levels: HashMap::default(),
            texts: Vec::new(),
            free_levels: Vec::new(),
            receivers: Vec::new(),
            free_slots: Vec::new(),
        }
    }
}

impl Index {
    pub(super) fn register(&mut self, inbox: Arc<dyn Inbox>) -> Slot {
        if let Some(slot) = self.free_slots.pop() {
            self.receivers[slot as usize] = Some(inbox);
            return slot;
        }
        self.receivers.push(Some(inbox));
        number(self.receivers.len() - 1)
    }

    /// The receiver's subscriptions must be gone.
    pub(super) fn release(&mut self, slot: Slot) {
        self.receivers[slot as usize] = None;
        self.free_slots.push(slot);
    }

    pub(super) fn subscribe(
        &mut self,
        slot: Slot,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) {
        let mut node = ROOT;
        for level in filter.levels() {
            node = self.step_or_grow(node, level);
        }
        if filter.share_group().is_some() {
            return self.join(node, slot, filter, options, id);
        }
        let subscription = Subscription { slot, options, id };
        let subscriptions = &mut self.nodes[node as usize].subscriptions;
        match subscriptions.iter_mut().find(|s| s.slot == slot) {
            // [MQTT-3.8.4-3] an identical filter replaces the subscription.
            Some(existing) => *existing = subscription,
            None => subscriptions.push(subscription),
        }
    }

    fn join(
        &mut self,
        node: Node,
        slot: Slot,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) {
        let Some(inbox) = self.receivers[slot as usize].clone() else { return };
        let data = &mut self.nodes[node as usize];
        let group = match data.group(filter) {
            Some(group) => group.clone(),
            None => {
                let group = Arc::new(Group::new(filter.clone()));
                data.groups.get_or_insert_default().push(group.clone());
                group
            }
        };
        group.set(slot, Target::new(inbox, options, id));
    }

    pub(super) fn unsubscribe(&mut self, slot: Slot, filter: &TopicFilter) {
        let Some(node) = self.find(filter) else { return };
        let data = &mut self.nodes[node as usize];
        if filter.share_group().is_some() {
            let is_empty = data.group(filter).is_some_and(|group| group.remove(slot));
            if is_empty && let Some(groups) = &mut data.groups {
                groups.retain(|group| group.filter != *filter);
                data.groups.take_if(|groups| groups.is_empty());
            }
        } else {
            data.subscriptions.retain(|s| s.slot != slot);
        }
        self.prune(node);
    }

    /// The group that shares a filter.
    pub(super) fn group(&self, filter: &TopicFilter) -> Option<Arc<Group>> {
        self.nodes[self.find(filter)? as usize].group(filter).cloned()
    }

    fn find(&self, filter: &TopicFilter) -> Option<Node> {
        filter.levels().try_fold(ROOT, |node, level| self.step(node, level))
    }

    /// Receivers of a name, each once.
    pub(super) fn route(&self, name: &TopicName) -> Route {
        let mut found = Found::default();
        let mut current = vec![ROOT];
        let mut next = Vec::new();
        let mut wildcards = !name.is_reserved();
        for level in name.levels() {
            let level = self.levels.get(level).map(|interned| interned.level);
            for &node in &current {
                let data = &self.nodes[node as usize];
                if wildcards {
                    if data.hash != NONE {
                        found.add(&self.nodes[data.hash as usize], false);
                    }
                    if data.plus != NONE {
                        next.push(data.plus);
                    }
                }
                if let Some(&child) = level.and_then(|level| self.edges.get(&(node, level))) {
                    next.push(child);
                }
            }
            // [MQTT-4.7.2-1] holds for the first level only.
            wildcards = true;
            current.clear();
            std::mem::swap(&mut current, &mut next);
        }
        for node in current {
            let data = &self.nodes[node as usize];
            found.add(data, false);
            // `a/#` matches `a` too.
            if data.hash != NONE {
                found.add(&self.nodes[data.hash as usize], true);
            }
        }
        Route { targets: self.targets(found.subscriptions), groups: found.groups.into() }
    }

    fn targets(&self, mut found: Vec<Subscription>) -> Box<[Target]> {
        found.sort_unstable_by_key(|s| s.slot);
        let mut targets: Vec<Target> = Vec::with_capacity(found.len());
        let mut last = None;
        for subscription in found {
            let Some(inbox) = &self.receivers[subscription.slot as usize] else { continue };
            let Subscription { slot, options, id } = subscription;
            match targets.last_mut() {
                // [MQTT-3.3.4-2] one copy with the highest QoS of all matching subscriptions.
                Some(target) if last == Some(slot) => target.merge(options, id),
                _ => targets.push(Target::new(inbox.clone(), options, id)),
            }
            last = Some(slot);
        }
        targets.into_boxed_slice()
    }

    fn step(&self, node: Node, level: &str) -> Option<Node> {
        let data = &self.nodes[node as usize];
        let next = match level {
            "+" => data.plus,
            "#" => data.hash,
            level => *self.edges.get(&(node, self.levels.get(level)?.level))?,
        };
        (next != NONE).then_some(next)
    }

    fn step_or_grow(&mut self, parent: Node, level: &str) -> Node {
        if let Some(node) = self.step(parent, level) {
            return node;
        }
        let step = match level {
            "+" => Step::Plus,
            "#" => Step::Hash,
            level => Step::Level(self.intern(level)),
        };
        let data = NodeData { parent, step, ..NodeData::default() };
        let node = match self.free_nodes.pop() {
            Some(node) => {
                self.nodes[node as usize] = data;
                node
            }
            None => {
                self.nodes.push(data);
                number(self.nodes.len() - 1)
            }
        };
        match step {
            Step::Plus => self.nodes[parent as usize].plus = node,
            Step::Hash => self.nodes[parent as usize].hash = node,
            Step::Level(level) => {
                self.edges.insert((parent, level), node);
            }
        }
        self.nodes[parent as usize].children += 1;
        node
    }

    /// Removes the node and its ancestors as far as nothing needs them.
    fn prune(&mut self, mut node: Node) {
        while node != ROOT {
            let data = &mut self.nodes[node as usize];
            if !data.is_unused() {
                return;
            }
            let (parent, step) = (data.parent, data.step);
            data.subscriptions = SmallVec::new();
            self.free_nodes.push(node);
            match step {
                Step::Plus => self.nodes[parent as usize].plus = NONE,
                Step::Hash => self.nodes[parent as usize].hash = NONE,
                Step::Level(level) => {
                    self.edges.remove(&(parent, level));
                    self.forget(level);
                }
            }
            self.nodes[parent as usize].children -= 1;
            node = parent;
        }
    }

    fn intern(&mut self, text: &str) -> Level {
        if let Some(interned) = self.levels.get_mut(text) {
            interned.uses += 1;
            return interned.level;
        }
        let text: Arc<str> = text.into();
        let level = match self.free_levels.pop() {
            Some(level) => {
                self.texts[level as usize] = text.clone();
                level
            }
            None => {
                self.texts.push(text.clone());
                number(self.texts.len() - 1)
            }
        };
        self.levels.insert(text, Interned { level, uses: 1 });
        level
    }

    fn forget(&mut self, level: Level) {
        let text = self.texts[level as usize].clone();
        if let Some(interned) = self.levels.get_mut(&text) {
            interned.uses -= 1;
            if interned.uses == 0 {
                self.levels.remove(&text);
                self.free_levels.push(level);
                self.texts[level as usize] = "".into();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let nodes = self.nodes.len() - self.free_nodes.len();
        (nodes, self.edges.len(), self.levels.len())
    }
}

/// What a walk over the trie finds.
#[derive(Default)]
struct Found {
    subscriptions: Vec<Subscription>,
    groups: Vec<Arc<Group>>,
}

impl Found {
    /// `is_parent`: the node's filter ends with `#`, and what is below it is not part of the name.
    fn add(&mut self, node: &NodeData, is_parent: bool) {
        let subscriptions = node.subscriptions.iter();
        let matching = subscriptions.filter(|s| !(is_parent && s.options.without_parent));
        self.subscriptions.extend(matching);
        self.groups.extend(node.groups.iter().flat_map(|groups| groups.iter().cloned()));
    }
}

fn number(position: usize) -> u32 {
    u32::try_from(position).expect("four billion nodes do not fit into memory")
}
