//! What must hold of every placement, over random fleets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};
use windlass_core::{
    engine::Engine,
    id::{HostId, InstanceId},
    instance::PlacementRules,
    size::{GIB, Resources},
};
use windlass_logic::placement::{
    HostView, Load, Locality, Overcommit, PlacementRequest, Policy, Ports, Rule, Verdict, choose::VERDICTS_KEPT,
    explain, filter::passes, place, place_members,
};

fn resources(most: u64) -> impl Strategy<Value = Resources> {
    (0..=most, 0..=most, 0..=most).prop_map(|(cpu, memory, disk)| Resources {
        cpu_millis: cpu * 500,
        memory_bytes: memory * GIB / 2,
        disk_bytes: disk * GIB,
    })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(select(vec!["disk", "rack"]), select(vec!["a", "b"]), 0..=2)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// Few distinct values, so that ties, full hosts and exact fits are common.
fn host() -> impl Strategy<Value = HostView> {
    let identity = (any::<u128>(), select(vec!["", "north", "south"]), select(vec!["", "z1", "z2"]), labels());
    let flags = (prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::bool::weighted(0.05));
    let factor = || select(vec![0.5, 1.0, 1.5, 4.0]);
    let size = (resources(8), resources(8), (factor(), factor(), factor()));
    let rest = (
        select(vec![vec!["15"], vec!["16"], vec!["15", "16"], vec![]]),
        (0u32..=4, select(vec![0.0, 1.0, 5.0]), select(vec![0.0, 30.0, 100.0, f64::NAN])),
        (prop::bool::weighted(0.1), 0u32..3),
    );
    (identity, flags, size, rest).prop_map(
        |(
            (id, region, zone, labels),
            (online, cordoned, revoked),
            (capacity, reserved, oc),
            (versions, facts, held),
        )| {
            let instance_members = u32::from(held.0);
            HostView {
                id: HostId(uuid::Uuid::from_u128(id)),
                name: format!("host-{id:x}"),
                online,
                cordoned,
                revoked,
                region: region.to_owned(),
                zone: zone.to_owned(),
                labels,
                capacity,
                reserved,
                overcommit: Overcommit { cpu: oc.0, memory: oc.1, disk: oc.2 },
                engines: versions.into_iter().map(|version| (Engine::Postgres, version.to_owned())).collect(),
                ports: Ports { low: 5000, high: 5003, taken: facts.0 },
                cost_weight: facts.1,
                load: Load { cpu_percent: facts.2, ..Load::default() },
                instance_members,
                project_members: instance_members + held.1,
            }
        },
    )
}

fn request() -> impl Strategy<Value = PlacementRequest> {
    let rules = (
        select(vec!["", "", "north"]),
        select(vec!["", "", "z1"]),
        prop_oneof![2 => Just(BTreeMap::new()), 1 => labels()],
    )
        .prop_map(|(region, zone, host_labels)| PlacementRules {
            region: region.to_owned(),
            zone: zone.to_owned(),
            host_labels,
        });
    (any::<u128>(), resources(3), rules, select(vec!["", "south"]), select(vec![0.0, 0.75, 1.0])).prop_map(
        |(id, resources, rules, region, packing)| PlacementRequest {
            instance: InstanceId(uuid::Uuid::from_u128(id)),
            engine: Engine::Postgres,
            version: "15".to_owned(),
            resources,
            rules,
            prefer: Locality { region: region.to_owned(), zone: String::new() },
            policy: Policy { packing },
        },
    )
}

fn fleet() -> impl Strategy<Value = Vec<HostView>> {
    vec(host(), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_winner_has_room_and_everything_that_was_asked(request in request(), hosts in fleet()) {
        let Some(chosen) = place(&request, &hosts).chosen else { return Ok(()) };
        let host = hosts.iter().find(|host| host.id == chosen).expect("the winner is one of the hosts");
        let sum = host.reserved.plus(request.resources);
        prop_assert!(sum.cpu_millis as f64 <= host.capacity.cpu_millis as f64 * host.overcommit.cpu);
        prop_assert!(sum.memory_bytes as f64 <= host.capacity.memory_bytes as f64 * host.overcommit.memory);
        prop_assert!(sum.disk_bytes as f64 <= host.capacity.disk_bytes as f64 * host.overcommit.disk);
        prop_assert!(host.online && !host.cordoned && !host.revoked && host.instance_members == 0);
        prop_assert!(host.ports.taken < 4);
        prop_assert!(host.engines.iter().any(|(_, version)| *version == request.version));
        prop_assert!(request.rules.region.is_empty() || request.rules.region == host.region);
        prop_assert!(request.rules.zone.is_empty() || request.rules.zone == host.zone);
        prop_assert!(request.rules.host_labels.iter().all(|(key, value)| host.labels.get(key) == Some(value)));
    }

    #[test]
    fn if_any_host_fits_one_is_chosen_and_otherwise_every_rejection_is_counted(request in request(), hosts in fleet()) {
        let placement = place(&request, &hosts);
        prop_assert_eq!(placement.chosen.is_some(), hosts.iter().any(|host| passes(&request, host)));
        prop_assert_eq!(placement.host().is_ok(), placement.chosen.is_some());
        if placement.chosen.is_none() {
            let counted: usize = placement.rejected_by.values().sum();
            prop_assert!(counted >= hosts.len(), "{counted} rules broken by {} hosts", hosts.len());
        }
    }

    #[test]
    fn the_order_of_hosts_changes_nothing(request in request(), hosts in fleet(), by in any::<prop::sample::Index>()) {
        let mut turned = hosts.clone();
        if !turned.is_empty() {
            let middle = by.index(turned.len());
            turned.rotate_left(middle);
            turned[..].reverse();
        }
        prop_assert_eq!(place(&request, &turned), place(&request, &hosts));
        prop_assert_eq!(explain(&request, &turned), explain(&request, &hosts));
    }

    #[test]
    fn an_added_worse_host_never_wins(request in request(), hosts in fleet(), like in any::<prop::sample::Index>()) {
        let Some(chosen) = place(&request, &hosts).chosen else { return Ok(()) };
        let winner = hosts.iter().find(|host| host.id == chosen).expect("the winner is one of the hosts");
        let fresh = || HostView { id: HostId::new(), instance_members: 0, project_members: 0, ..winner.clone() };
        let model = &hosts[like.index(hosts.len())];
        let mut worse = vec![
            HostView { online: false, ..fresh() },
            HostView { cordoned: true, ..fresh() },
            HostView { capacity: Resources { memory_bytes: 0, ..winner.capacity }, overcommit: Overcommit::NONE, reserved: Resources { memory_bytes: 1, ..winner.reserved }, ..fresh() },
            HostView { id: HostId::new(), online: false, instance_members: 0, project_members: 0, ..model.clone() },
        ];
        // A newcomer holds no member of the project, which is better; it is only dearer if the winner holds none too.
        if winner.project_members == 0 {
            worse.push(HostView { cost_weight: winner.cost_weight + 1.0, ..fresh() });
        }
        for (index, host) in worse.into_iter().enumerate() {
            let mut more = hosts.clone();
            more.push(host);
            prop_assert_eq!(place(&request, &more).chosen, Some(chosen), "worse host {}", index);
        }
    }

    #[test]
    fn the_explanation_agrees_with_the_placement(request in request(), hosts in fleet()) {
        let placement = place(&request, &hosts);
        let verdicts = explain(&request, &hosts);
        prop_assert_eq!(verdicts.len(), hosts.len());
        let chosen: Vec<_> = verdicts.iter().filter(|verdict| verdict.chosen).map(|verdict| verdict.host).collect();
        prop_assert_eq!(chosen, placement.chosen.into_iter().collect::<Vec<_>>());
        for verdict in &verdicts {
            let host = hosts.iter().find(|host| host.id == verdict.host).expect("a verdict is about a host");
            prop_assert_eq!(verdict.rejections.is_empty(), passes(&request, host));
            prop_assert_eq!(verdict.rejections.is_empty(), !verdict.parts.is_empty());
            prop_assert!((0.0..=1.0).contains(&verdict.score), "{}", verdict.score);
            prop_assert!(verdict.rejections.iter().all(|rejection| !rejection.message.is_empty()));
        }
        let members = |verdict: &Verdict| {
            let own = hosts.iter().find(|host| host.id == verdict.host).expect("a verdict is about a host");
            let zone = |host: &&HostView| (&host.region, &host.zone) == (&own.region, &own.zone);
            let all = hosts.iter().filter(zone).map(|host| host.instance_members).sum::<u32>();
            if own.zone.is_empty() { own.instance_members } else { all }
        };
        let fitting: Vec<_> = verdicts.iter().filter(|verdict| verdict.rejections.is_empty()).collect();
        let ordered = fitting.windows(2).all(|pair| {
            let (a, b) = (members(pair[0]), members(pair[1]));
            a < b || (a == b && pair[0].score >= pair[1].score)
        });
        prop_assert!(ordered, "best first");
        if hosts.len() <= VERDICTS_KEPT || placement.chosen.is_none() {
            prop_assert_eq!(&placement.verdicts[..], &verdicts[..verdicts.len().min(VERDICTS_KEPT)]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_members_get_hosts_of_their_own_in_as_many_zones_as_there_are(
        request in request(), hosts in fleet(), count in 1_usize..=5,
    ) {
        let hosts: Vec<_> = hosts.into_iter().map(|host| HostView { instance_members: 0, ..host }).collect();
        let fitting: Vec<_> = hosts.iter().filter(|host| passes(&request, host)).collect();
        let spread = place_members(&request, &hosts, count);
        prop_assert_eq!(spread.hosts().is_ok(), fitting.len() >= count);
        let Ok(chosen) = spread.hosts() else { return Ok(()) };
        let distinct: BTreeSet<_> = chosen.iter().collect();
        prop_assert_eq!(distinct.len(), count, "two members on one host");
        let zones = |hosts: &mut dyn Iterator<Item = &HostView>| {
            hosts.map(|host| {
                let id = if host.zone.is_empty() { host.id.to_string() } else { String::new() };
                (host.region.clone(), host.zone.clone(), id)
            }).collect::<BTreeSet<_>>().len()
        };
        let there_are = zones(&mut fitting.iter().copied());
        let used = zones(&mut hosts.iter().filter(|host| chosen.contains(&host.id)));
        prop_assert_eq!(used, there_are.min(count), "zones");
        prop_assert_eq!(spread.notes.is_empty(), there_are >= count, "{:?}", spread.notes);
    }
}

fn sample(name: &str) -> HostView {
    HostView {
        id: HostId(uuid::Uuid::from_u128(name.bytes().map(u128::from).sum())),
        name: name.to_owned(),
        online: true,
        cordoned: false,
        revoked: false,
        region: "north".to_owned(),
        zone: "z1".to_owned(),
        labels: BTreeMap::from([("disk".to_owned(), "hdd".to_owned())]),
        capacity: Resources { cpu_millis: 4000, memory_bytes: 16 * GIB, disk_bytes: 100 * GIB },
        reserved: Resources { cpu_millis: 1000, memory_bytes: 4 * GIB, disk_bytes: 10 * GIB },
        overcommit: Overcommit { cpu: 4.0, memory: 1.0, disk: 1.0 },
        engines: vec![(Engine::Postgres, "15".to_owned()), (Engine::Mariadb, "10.11".to_owned())],
        ports: Ports { low: 5500, high: 5599, taken: 1 },
        cost_weight: 1.0,
        load: Load::default(),
        instance_members: 0,
        project_members: 0,
    }
}

fn sample_request() -> PlacementRequest {
    PlacementRequest {
        instance: InstanceId(uuid::Uuid::from_u128(1)),
        engine: Engine::Postgres,
        version: "15".to_owned(),
        resources: Resources { cpu_millis: 500, memory_bytes: GIB / 2, disk_bytes: 2 * GIB },
        rules: PlacementRules::default(),
        prefer: Locality::default(),
        policy: Policy::default(),
    }
}

/// Every rule is broken once, and its sentence has the numbers a user needs.
#[test]
fn each_rejection_is_a_sentence_with_numbers() {
    let base = sample("h");
    let rules = PlacementRules {
        region: "south".to_owned(),
        zone: "z9".to_owned(),
        host_labels: BTreeMap::from([("disk".to_owned(), "nvme".to_owned())]),
    };
    let huge = Resources { cpu_millis: 20_000, memory_bytes: 13 * GIB, disk_bytes: 91 * GIB };
    let request = PlacementRequest { version: "17".to_owned(), resources: huge, rules, ..sample_request() };
    let host = HostView {
        online: false,
        cordoned: true,
        revoked: true,
        ports: Ports { taken: 100, ..base.ports },
        instance_members: 1,
        ..base
    };
    let lines: Vec<_> =
        explain(&request, &[host])[0].rejections.iter().map(|r| format!("{}: {}", r.rule, r.message)).collect();
    assert_eq!(
        lines,
        [
            "revoked: its certificate was revoked; enrol it again with a new join token",
            "offline: its agent does not answer; start it or check its connection",
            "cordoned: it is cordoned; uncordon it to use it",
            "memory: it has 12 GiB of memory free out of 16 GiB (16 GiB × overcommit 1), 13 GiB asked",
            "cpu: it has 15 cores free out of 16 cores (4 cores × overcommit 4), 20 cores asked",
            "disk: it has 90 GiB of disk free out of 100 GiB (100 GiB × overcommit 1), 91 GiB asked",
            "ports: all 100 ports from 5500 to 5599 are taken",
            "anti-affinity: it already holds a member of this instance",
            "engine: it has mariadb 10.11, postgres 15, not postgres 17",
            "region: it is in region north, not south",
            "zone: it is in zone z1, not z9",
            "labels: it lacks the label disk=nvme (it has disk=hdd)",
        ]
    );
    assert_eq!(lines.len(), Rule::ALL.len());
}

#[test]
fn the_error_names_the_hosts_and_why() {
    let hosts = [HostView { cordoned: true, ..sample("a") }, HostView { online: false, ..sample("b") }];
    let error = place(&sample_request(), &hosts).host().expect_err("nothing fits");
    assert_eq!(
        error.message,
        "none of 2 hosts fits (offline 1, cordoned 1). a: it is cordoned; uncordon it to use it. \
         b: its agent does not answer; start it or check its connection"
    );
    assert!(place(&sample_request(), &[]).host().expect_err("no hosts").message.contains("no host is enrolled"));
}

/// Each preference, alone, decides between two hosts that differ in nothing else.
#[test]
fn each_preference_decides_between_otherwise_equal_hosts() {
    let base = sample_request();
    let better = sample("x");
    let worse = sample("y");
    let winner = |request: &PlacementRequest, hosts: &[HostView]| {
        let chosen = place(request, hosts).chosen;
        hosts.iter().find(|host| Some(host.id) == chosen).expect("one fits").name.clone()
    };
    let cases = [
        (
            "load",
            base.clone(),
            better.clone(),
            HostView { load: Load { psi_io: 40.0, ..Load::default() }, ..worse.clone() },
        ),
        ("cost", base.clone(), better.clone(), HostView { cost_weight: 2.0, ..worse.clone() }),
        ("project on the host", base.clone(), better.clone(), HostView { project_members: 1, ..worse.clone() }),
        (
            "locality",
            PlacementRequest { prefer: Locality { region: "north".into(), zone: "z2".into() }, ..base.clone() },
            HostView { zone: "z2".into(), ..better.clone() },
            worse.clone(),
        ),
        (
            "packing",
            base.clone(),
            HostView { reserved: Resources { memory_bytes: 8 * GIB, ..better.reserved }, ..better.clone() },
            worse.clone(),
        ),
        (
            "spreading",
            PlacementRequest { policy: Policy { packing: 0.0 }, ..base.clone() },
            better.clone(),
            HostView { reserved: Resources { memory_bytes: 8 * GIB, ..better.reserved }, ..worse.clone() },
        ),
    ];
    for (what, request, better, worse) in cases {
        assert_eq!(winner(&request, &[better.clone(), worse.clone()]), "x", "{what}");
        assert_eq!(winner(&request, &[worse, better]), "x", "{what}, other order");
    }
}

#[test]
fn a_second_member_goes_to_another_zone_even_if_all_else_speaks_against_it() {
    let first = HostView { instance_members: 1, project_members: 1, ..sample("first") };
    let near = sample("near");
    let far = HostView {
        zone: "z2".to_owned(),
        cost_weight: 3.0,
        load: Load { cpu_percent: 30.0, ..Load::default() },
        ..sample("far")
    };
    let placement = place(&sample_request(), &[first, near, far.clone()]);
    assert_eq!(placement.chosen, Some(far.id));
}

#[test]
fn a_shared_zone_and_a_missing_host_are_explained() {
    let far = HostView { zone: "z2".to_owned(), ..sample("far") };
    let hosts = [sample("a"), sample("b"), far.clone()];
    let spread = place_members(&sample_request(), &hosts, 3);
    let chosen = spread.hosts().expect("all fit");
    assert!(chosen[..2].contains(&far.id), "the second zone is used before the first is used again");
    assert_eq!(spread.notes.len(), 1);
    assert!(spread.notes[0].contains("shares zone z1"), "{}", spread.notes[0]);
    let error = place_members(&sample_request(), &hosts, 4).hosts().expect_err("three hosts");
    assert!(error.message.starts_with("3 members have a place, another has none"), "{}", error.message);
}

#[test]
fn ties_are_spread_over_instances() {
    let hosts: Vec<_> = (1..=4u128).map(|n| HostView { id: HostId(uuid::Uuid::from_u128(n)), ..sample("t") }).collect();
    let mut won = BTreeMap::<HostId, u32>::new();
    for n in 0..400 {
        let request = PlacementRequest { instance: InstanceId(uuid::Uuid::from_u128(n)), ..sample_request() };
        *won.entry(place(&request, &hosts).chosen.expect("all fit")).or_default() += 1;
    }
    assert!(won.len() == 4 && won.values().all(|count| (50..200).contains(count)), "{won:?}");
}
