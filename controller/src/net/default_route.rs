//! Default routes, with all of their next hops.

use netlink_bindings::rt_route::OpGetrouteDump;
use netlink_bindings::traits::NetlinkRequest as _;

use super::object::Listed;
use super::route::{Route, RouteKind, Routes};

/// A route for everything that no other route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The route. It has no link if there are several next hops.
    pub route: Route,
    /// The indices of the links that packets leave by, one for each next hop.
    pub links: Vec<u32>,
}

impl Listed for DefaultRoute {
    type Filter = Routes;
    const NAME: &'static str = Route::NAME;
    const GET: u16 = Route::GET;

    fn ask(filter: &Routes, body: &mut Vec<u8>) {
        Route::ask(filter, body);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let route = Route::decode(body)?;
        if route.destination.prefix_len() != 0 || route.kind != RouteKind::UNICAST {
            return None;
        }
        let (_, attributes) = OpGetrouteDump::decode_reply(body);
        let several = attributes.get_multipath().map(links).unwrap_or_default();
        Some(Self {
            route,
            links: route.link.into_iter().chain(several).collect(),
        })
    }

    fn passes(&self, filter: &Routes) -> bool {
        let by_link = filter.link.is_none_or(|link| self.links.contains(&link));
        by_link && self.route.passes(&Routes { link: None, ..*filter })
    }
}

/// The links of several next hops (`struct rtnexthop`: length, flags and weight, index; then attributes).
fn links(mut hops: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let Some((&[low, high, _, _, a, b, c, d], _)) = hops.split_first_chunk() {
        links.push(u32::from_ne_bytes([a, b, c, d]));
        let len = usize::from(u16::from_ne_bytes([low, high])).next_multiple_of(4);
        match hops.get(len..) {
            Some(rest) if len >= 8 => hops = rest,
            _ => break,
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::links;

    #[test]
    fn all_next_hops_are_read_and_broken_ones_end_the_list() {
        let hop = |len: u16, index: u32| {
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend([0, 0]);
            bytes.extend(index.to_ne_bytes());
            bytes.resize(usize::from(len).next_multiple_of(4).max(8), 0);
            bytes
        };
        assert_eq!(links(&[hop(16, 2), hop(13, 3), hop(8, 7)].concat()), [2, 3, 7]);
        assert_eq!(links(&[hop(16, 2), hop(0, 3), hop(8, 7)].concat()), [2, 3]);
        assert_eq!(links(&hop(16, 2)[..12]), [2]);
        assert_eq!(links(&[8, 0, 0]), [0_u32; 0]);
    }
}
