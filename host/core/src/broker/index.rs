//! The subscription index: a trie over topic levels.
//!
//! Levels are interned, nodes live in an arena, and all edges in one table, by (node, level): a
//! filter that nobody shares costs a node, an edge and its own level's text. Matching a name walks
//! all branches at once, level by level, without recursion: its cost grows with the depth of the name
//! and the branches that match, not with the number of subscriptions.

mod chunks;
mod levels;

use super::share::Group;
use super::{Inbox, Route, Target};
use crate::message::SubscriptionId;
use crate::packet::SubscribeOptions;
use crate::topic::{TopicFilter, TopicName};
use ahash::RandomState;
use chunks::Chunks;
use hashbrown::HashTable;
use levels::{Level, Levels};
use smallvec::SmallVec;
use std::sync::Arc;

/// Position of a receiver; reused after [`Index::release`].
pub(super) type Slot = u32;

type Node = u32;

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

    /// Parent and level by which it is reached, if it is by a level.
    fn edge(&self) -> Option<(Node, Level)> {
        match self.step {
            Step::Level(level) => Some((self.parent, level)),
            Step::Plus | Step::Hash => None,
        }
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

pub(super) struct Index {
    nodes: Chunks<NodeData>,
    free_nodes: Vec<Node>,
    /// The nodes that are reached by a level; what leads to them stands in the node.
    edges: HashTable<Node>,
    levels: Levels,
    hasher: RandomState,
    receivers: Chunks<Option<Arc<dyn Inbox>>>,
    free_slots: Vec<Slot>,
}

impl Default for Index {
    fn default() -> Self {
        let mut nodes = Chunks::new();
        nodes.push(NodeData::default());
        Self {
            nodes,
            free_nodes: Vec::new(),
            edges: HashTable::new(),
            levels: Levels::default(),
            hasher: RandomState::default(),
            receivers: Chunks::new(),
            free_slots: Vec::new(),
        }
    }
}

impl Index {
    pub(super) fn register(&mut self, inbox: Arc<dyn Inbox>) -> Slot {
        if let Some(slot) = self.free_slots.pop() {
            self.receivers[slot] = Some(inbox);
            return slot;
        }
        self.receivers.push(Some(inbox))
    }

    /// The receiver's subscriptions must be gone.
    pub(super) fn release(&mut self, slot: Slot) {
        self.receivers[slot] = None;
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
        let subscriptions = &mut self.nodes[node].subscriptions;
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
        let Some(inbox) = self.receivers[slot].clone() else { return };
        let data = &mut self.nodes[node];
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
        let data = &mut self.nodes[node];
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
        self.nodes[self.find(filter)?].group(filter).cloned()
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
            let level = self.levels.get(level);
            for &node in &current {
                let data = &self.nodes[node];
                if wildcards {
                    if data.hash != NONE {
                        found.add(&self.nodes[data.hash], false);
                    }
                    if data.plus != NONE {
                        next.push(data.plus);
                    }
                }
                next.extend(level.and_then(|level| self.child(node, level)));
            }
            // [MQTT-4.7.2-1] holds for the first level only.
            wildcards = true;
            current.clear();
            std::mem::swap(&mut current, &mut next);
        }
        for node in current {
            let data = &self.nodes[node];
            found.add(data, false);
            // `a/#` matches `a` too.
            if data.hash != NONE {
                found.add(&self.nodes[data.hash], true);
            }
        }
        Route { targets: self.targets(found.subscriptions), groups: found.groups.into() }
    }

    fn targets(&self, mut found: Vec<Subscription>) -> Box<[Target]> {
        found.sort_unstable_by_key(|s| s.slot);
        let mut targets: Vec<Target> = Vec::with_capacity(found.len());
        let mut last = None;
        for subscription in found {
            let Some(inbox) = &self.receivers[subscription.slot] else { continue };
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

    fn child(&self, parent: Node, level: Level) -> Option<Node> {
        let is_it = |node: &Node| self.nodes[*node].edge() == Some((parent, level));
        self.edges.find(self.hasher.hash_one((parent, level)), is_it).copied()
    }

    fn step(&self, node: Node, level: &str) -> Option<Node> {
        let data = &self.nodes[node];
        let next = match level {
            "+" => data.plus,
            "#" => data.hash,
            level => self.child(node, self.levels.get(level)?)?,
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
            level => Step::Level(self.levels.intern(level)),
        };
        let data = NodeData { parent, step, ..NodeData::default() };
        let node = match self.free_nodes.pop() {
            Some(node) => {
                self.nodes[node] = data;
                node
            }
            None => self.nodes.push(data),
        };
        match step {
            Step::Plus => self.nodes[parent].plus = node,
            Step::Hash => self.nodes[parent].hash = node,
            Step::Level(level) => {
                let (hasher, nodes) = (&self.hasher, &self.nodes);
                let hash = |node: &Node| hasher.hash_one(nodes[*node].edge().unwrap_or_default());
                self.edges.insert_unique(hasher.hash_one((parent, level)), node, hash);
            }
        }
        self.nodes[parent].children += 1;
        node
    }

    /// Removes the node and its ancestors as far as nothing needs them.
    fn prune(&mut self, mut node: Node) {
        while node != ROOT {
            let data = &mut self.nodes[node];
            if !data.is_unused() {
                return;
            }
            let (parent, step) = (data.parent, data.step);
            data.subscriptions = SmallVec::new();
            self.free_nodes.push(node);
            match step {
                Step::Plus => self.nodes[parent].plus = NONE,
                Step::Hash => self.nodes[parent].hash = NONE,
                Step::Level(level) => {
                    let hash = self.hasher.hash_one((parent, level));
                    if let Ok(edge) = self.edges.find_entry(hash, |it| *it == node) {
                        edge.remove();
                    }
                    self.levels.release(level);
                }
            }
            self.nodes[parent].children -= 1;
            node = parent;
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
