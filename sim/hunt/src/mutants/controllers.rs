//! Bugs of the active controller: when it begins, and whom it takes in (`quipu-broker`, `quipu-controller`).

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "controller.begins-before-replay",
        bug: "A new active controller decides before it has applied what its predecessors have committed.",
        story: "A new leader's state machine is behind its log (Raft's dissertation, 6.2), and KRaft's controllers claim their leadership only \
                when they have replayed everything before it. A decision on an old image repeats epochs, and ids, that others have been given.",
    },
    Mutant {
        name: "controller.node-id-in-use-accepted",
        bug: "Nodes hear whoever says that it has an id under which another one serves.",
        story: "Two machines from one configuration file: Kafka's second broker ends with NodeExistsException under ZooKeeper, and KRaft \
                answers DUPLICATE_BROKER_REGISTRATION (KIP-631). Without that each registration fences the other one's, in turns.",
    },
];
