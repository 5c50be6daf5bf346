// The order of hosts in the matrix, and their groups.

const NAMES = new Intl.Collator("en", { numeric: true });

/** How bad the pairs of each host are: the mean of their shades, both as a row and as a column. */
function badness(number, shades) {
  const sums = new Float64Array(number);
  const counts = new Uint32Array(number);
  for (let from = 0; from < number; from += 1) {
    for (let to = 0; to < number; to += 1) {
      const shade = shades[from * number + to] ?? -1;
      if (shade < 0) continue;
      sums[from] += shade;
      sums[to] += shade;
      counts[from] += 1;
      counts[to] += 1;
    }
  }
  return sums.map((sum, host) => (counts[host] ? sum / counts[host] : -1));
}

/** Indices of hosts by `name`, `rack`, `zone` or `worst`, and groups: name and first place in this order. */
export function arrange(hosts, by, shades) {
  const order = hosts.map((_, index) => index);
  const byName = (one, other) => NAMES.compare(hosts[one].name, hosts[other].name);
  if (by === "worst") {
    const bad = badness(hosts.length, shades);
    return { order: order.sort((one, other) => bad[other] - bad[one] || byName(one, other)), groups: [] };
  }
  const labelOf = {
    name: () => "",
    rack: ({ zone, rack }) => (zone && rack ? `${zone} ${rack}` : rack),
    zone: ({ zone }) => zone,
  }[by];
  const labels = hosts.map(labelOf);
  order.sort((one, other) => NAMES.compare(labels[one], labels[other]) || byName(one, other));
  const groups = [];
  if (by !== "name") {
    order.forEach((host, place) => {
      if (groups.at(-1)?.label !== labels[host]) groups.push({ label: labels[host], begin: place });
    });
    groups.forEach((group, index) => (group.end = groups[index + 1]?.begin ?? order.length));
  }
  return { order, groups };
}
