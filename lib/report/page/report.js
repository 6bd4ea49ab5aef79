// Draws report.html from the data that report.json holds, too. Text goes in by text nodes alone: names of
// models and layers are somebody else's.
'use strict';
const {report, how_to_load: howToLoad, consumers} = JSON.parse(document.getElementById('report').textContent);

// el('td', {class: 'name'}, 'text', node, ...); what is null or false is left out.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'style')
      for (const [name, text] of Object.entries(value)) node.style.setProperty(name, text);
    else if (key.startsWith('on'))
      node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null)
      node.setAttribute(key, value === true ? '' : value);
  }
  node.append(
      ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Numbers as people read them; what is not known is a dash.
const known = (value) => typeof value === 'number' && Number.isFinite(value);
const short = (value) => !known(value)                                ? '–' :
    value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) ? value.toExponential(2) :
                                                                        String(Number(value.toPrecision(4)));
const count = (value) => known(value) ? value.toLocaleString('en') : '–';
const percent = (share, digits = 2) => known(share) ? `${(100 * share).toFixed(digits)}\u00a0%` : '–';
function bytes(value) {
  if (!known(value)) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  return `${unit ? value.toFixed(value < 10 ? 2 : 1) : value}\u00a0${units[unit]}`;
}
function duration(seconds) {
  if (!known(seconds)) return '–';
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
const mean = (values) => values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
const median = (values) =>
    values.length ? [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] : null;
// (Math.max(...values) has a limit on how many.)
const most = (values) => values.length ? values.reduce((a, b) => Math.max(a, b)) : null;
const least = (values) => values.length ? values.reduce((a, b) => Math.min(a, b)) : null;
function grouped(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return groups;
}

// Charts: each is a function of the theme's colours, and is drawn anew when these change.
const charts = [];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const series = (index) => colour(`s${index % 8}`);
function axis(title, more = {}) {
  return {
    title: {display: true, text: title, color: colour('faint')},
    ticks: {color: colour('faint'), ...more.ticks},
    grid: {color: colour('line')},
    ...more.scale
  };
}
// On a logarithmic axis: 1, 2 and 5 times powers of ten are labelled, and these alone where there are too
// many.
const logarithmic = {
  scale: {
    type: 'logarithmic',
    afterBuildTicks: (scale) => {
      const of = (first) =>
          scale.ticks.filter(({value}) => first.includes(value.toExponential(6).slice(0, 8)));
      const some = of(['1.000000', '2.000000', '5.000000']);
      scale.ticks = some.length > 9 ? of(['1.000000']) : some;
    }
  },
  ticks: {callback: (value) => value < 1e-3 ? value.toExponential(0) : count(value)}
};
// The same of how many: one stands clear of the axis.
const counts = {
  ...logarithmic,
  scale: {...logarithmic.scale, min: 0.5}
};
// Below a histogram: round numbers from `low` to `high`, and bars as wide as the bins.
const binned = (title, low, high, ticks = {}) => axis(title, {
  scale: {type: 'linear', offset: false, min: low, max: high, grid: {color: colour('line'), offset: false}},
  ticks: {maxTicksLimit: 9, maxRotation: 0, includeBounds: false, callback: short, ...ticks}
});
const kBin = {
  categoryPercentage: 1,
  barPercentage: 0.85,
  grouped: false,
  maxBarThickness: Infinity
};
// A histogram's bins as points, in the middle of each.
const atCentres = (values, low, width) => values.map((y, i) => ({x: low + (i + 0.5) * width, y}));
// Over a bin: from where to where it reaches, and what each dataset has there.
const binTooltip = (low, width, show = short) => ({
  mode: 'index',
  intersect: false,
  callbacks: {
    title: ([item]) =>
        item ? `${show(low + item.dataIndex * width)} to ${show(low + (item.dataIndex + 1) * width)}` : '',
    label: ({dataset, raw}) => `${dataset.label}: ${count(raw.y ?? 0)}`
  }
});
const positive = (value) => known(value) && value > 0 ? value : null;  // what such an axis can show
function drawChart(chart) {
  chart.drawn?.destroy();
  const {type, data, scales, options = {}, plugins = []} = chart.make();
  const several = data.datasets.length > 1;
  chart.drawn = new Chart(chart.canvas, {
    type,
    data,
    plugins,
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      scales,
      interaction: {mode: 'nearest', axis: options.indexAxis ?? 'x', intersect: false},
      ...options,
      plugins: {
        legend: {
          display: several,
          labels: {color: colour('text'), boxWidth: 14, boxHeight: 8, usePointStyle: type === 'line'}
        },
        tooltip: {
          callbacks: {
            label: (item) => `${item.dataset.label}: ${
                item.raw instanceof Array ? item.raw.map(short).join(' to ') : short(item.raw)}`
          },
          mode: several ? 'index' : 'nearest',
          intersect: false
        },
        ...options.plugins
      }
    }
  });
}
function figure(caption, make, height = 280) {
  const canvas = el('canvas', {role: 'img', 'aria-label': caption});
  charts.push({canvas, make});
  return el(
      'figure', {}, el('div', {class: 'canvas', style: {height: `${height}px`}}, canvas),
      el('figcaption', {}, caption));
}
function redraw() {
  charts.forEach(drawChart);
}
// Dashed lines across a histogram whose bins go from -limit to limit.
const kDashes = [6, 4];
const marks = (places, limit, index) => ({
  id: 'marks',
  afterDatasetsDraw({ctx, chartArea: {left, right, top, bottom}}) {
    ctx.save();
    ctx.strokeStyle = series(index);
    ctx.lineWidth = 2;
    ctx.setLineDash(kDashes);
    ctx.beginPath();
    for (const place of places.filter((value) => Math.abs(value) <= limit)) {
      const x = left + (place / limit + 1) / 2 * (right - left);
      ctx.moveTo(x, top);
      ctx.lineTo(x, bottom);
    }
    ctx.stroke();
    ctx.restore();
  }
});
const line = (label, data, index, more = {}) => ({
  label,
  data,
  borderColor: series(index),
  backgroundColor: series(index),
  borderWidth: 2,
  pointRadius: data.length > 40 ? 0 : 3,
  pointStyle: ['circle', 'triangle', 'rect', 'rectRot', 'star', 'crossRot', 'cross', 'dash'][index % 8],
  spanGaps: true,
  ...more
});
const bar = (label, data, index, more = {}) =>
    ({label, data, backgroundColor: series(index), maxBarThickness: 34, ...more});

// A table that is sorted by a click on a column's head and shows `page` rows at a time.
// columns: [title, value of a row, {number, show: text of the value, name, text, marked: is a row's cell?}]
function table(columns, rows, page = 20) {
  let order = rows, shown = page, sortedBy = null, down = true, filter = '';
  const body = el('tbody'), more = el('button', {
                              type: 'button',
                              onclick: () => {
                                shown += 200;
                                fill();
                              }
                            }),
        summary = el('span', {class: 'faint'});
  const cell = (row, value, {number, show, name, text, marked} = {}) =>
      el('td',
         {class: [number ? 'number' : name ? 'name' : text ? 'text' : null, marked?.(row) && 'marked']
                     .filter(Boolean)
                     .join(' ') ||
              null},
         show              ? show(value) :
             value == null ? '–' :
                             String(value));
  function fill() {
    const wanted = order.filter(
        (row) =>
            !filter || columns.some(([, value]) => String(value(row) ?? '').toLowerCase().includes(filter)));
    body.replaceChildren(...wanted.slice(0, shown).map(
        (row) => el('tr', {}, columns.map(([, value, form]) => cell(row, value(row), form)))));
    more.hidden = wanted.length <= shown;
    more.textContent = `Show more (${count(wanted.length - shown)} left)`;
    summary.textContent = filter ? `${count(wanted.length)} of ${count(rows.length)} rows` : '';
  }
  function sort(index) {
    down = sortedBy === index ? !down : Boolean(columns[index][2]?.number);
    sortedBy = index;
    const value = columns[index][1], sign = down ? -1 : 1;
    order = [...rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x == null || y == null) return (x == null) - (y == null);
      return sign *
          (typeof x === 'number' && typeof y === 'number' ?
               x - y :
               String(x).localeCompare(String(y), 'en', {numeric: true}));
    });
    heads.forEach(
        (head, i) => i === index ? head.setAttribute('aria-sort', down ? 'descending' : 'ascending') :
                                   head.removeAttribute('aria-sort'));
    fill();
  }
  const heads = columns.map(
      ([title, , form], index) =>
          el('th', {class: form?.number ? 'number' : null, scope: 'col'},
             el('button', {type: 'button', title: 'sort', onclick: () => sort(index)}, title)));
  fill();
  const search = rows.length > page &&
      el('div', {class: 'controls'}, el('label', {}, 'Filter ', el('input', {
                                          type: 'search',
                                          oninput: (event) => {
                                            filter = event.target.value.toLowerCase();
                                            shown = page;
                                            fill();
                                          }
                                        })),
         summary);
  return el(
      'div', {}, search,
      el('div', {class: 'wide'}, el('table', {}, el('thead', {}, el('tr', {}, heads)), body)), more);
}
function choice(label, options, change) {
  const select =
      el('select', {onchange: (event) => change(event.target.value)},
         options.map(([value, text]) => el('option', {value}, text)));
  return {node: el('label', {}, label, select), select};
}

// A block and one of its rows to choose; a change of the block keeps the row's place. show: called with the
// row.
function picker(label, rows, start, nameOf, show) {
  const at = grouped(rows, (row) => row.block);
  let chosen = start;
  const pick = (row) => {
    chosen = row;
    show(row);
  };
  const which = choice(label, [], (value) => pick(at.get(chosen.block)[value]));
  const offer = () => which.select.replaceChildren(
      ...at.get(chosen.block)
          .map((row, i) => el('option', {value: i, selected: row === chosen}, nameOf(row))));
  const block = choice('Block', [...at.keys()].map((value) => [value, blockName(value)]), (value) => {
    const place = at.get(chosen.block).indexOf(chosen), next = at.get(Number(value));
    pick(next[Math.min(place, next.length - 1)]);
    offer();
  });
  block.select.value = chosen.block;
  offer();
  return el('div', {class: 'controls'}, block.node, which.node);
}

const linears = report.linears, evaluation = report.evaluation, totals = report.totals;
const kMeasures = [
  ['output_error', 'output error'], ['importance_weighted_error', 'importance-weighted error'],
  ['weight_error', 'weight error']
];
const measures = kMeasures.filter(([key]) => linears.some((row) => known(row[key])));
let measure = measures[0]?.[0] ?? 'weight_error';
const measureName = () => kMeasures.find(([key]) => key === measure)[1];
const byRole = () => grouped(linears, (row) => row.role);
const blocks = [...new Set(linears.map((row) => row.block))].sort((a, b) => a - b);
const errors = (rows) => rows.map((row) => row[measure]).filter(known);

// Nothing was written: sensitivity.html.
const measuredOnly = !totals.bytes_before;
function measuredSummary() {
  const {family, blocks: depth, parameters, dtype} = report.model, {candidates, groups} = report.sensitivity;
  return [el(
      'p', {class: 'faint'},
      `${family}, ${depth} blocks, ${short(parameters / 1e6)} M parameters, ${dtype}. `,
      `${count(groups.length)} groups; ${candidates.join('; ')}. `,
      report.calibration.rows ?
          `Measured on ${count(report.calibration.rows)} samples of ${
              count(report.calibration.seq_len)} tokens, those held out among them.` :
          '')];
}
function summary() {
  const tile = (value, label, detail, kind) =>
      el('div', {class: 'tile'}, el('span', {}, label), el('b', {class: kind}, value),
         detail && el('span', {}, detail));
  const tiles = [
    tile(
        bytes(totals.bytes_after), 'Size',
        `${percent(totals.bytes_after / totals.bytes_before, 1)} of ${bytes(totals.bytes_before)}`),
    tile(
        known(totals.bits_per_quantized_weight) ? totals.bits_per_quantized_weight.toFixed(3) : '–',
        'Bits per quantised weight',
        `${
            known(totals.bits_per_parameter) ? totals.bits_per_parameter.toFixed(3) :
                                               '–'} per parameter of the model`)
  ];
  if (evaluation) {
    const rise = evaluation.perplexity_after / evaluation.perplexity_before - 1;
    tiles.push(
        tile(
            short(evaluation.perplexity_after), 'Perplexity',
            `${short(evaluation.perplexity_before)} before, ${rise >= 0 ? '+' : '−'}${
                percent(Math.abs(rise))}`),
        tile(
            short(evaluation.kl_mean), 'Mean KL divergence, nats',
            `median ${short(evaluation.kl_median)}, 99\u00a0%\u00a0${short(evaluation.kl_p99)}`),
        tile(percent(evaluation.same_top), 'Same top token', `of ${count(evaluation.tokens)} tokens`));
  }
  tiles.push(
      tile(
          duration(totals.seconds), 'Time',
          `${report.environment.device}, ${report.environment.threads} thread${report.environment.threads === 1 ? '' : 's'}`),
      tile(
          bytes(report.memory.peak.ram), 'Peak memory',
          report.memory.peak.vram ? `and ${bytes(report.memory.peak.vram)} on the device` :
              report.memory.planned.ram ? `planned: at most ${bytes(report.memory.planned.ram)}` :
                                          null),
      tile(
          `${linears.length} of ${linears.length + report.kept.length}`, 'Linears quantised',
          `${percent(totals.quantized_share, 1)} of the parameters`));
  const schemes = [...grouped(linears, (row) => `${row.scheme}, ${row.solver}`)].map(
      ([scheme, rows]) => `${scheme} (${rows.length})`);
  const calibration = report.calibration;
  return [
    el('p', {class: 'faint'},
       `${report.model.family}, ${report.model.blocks ? `${report.model.blocks} blocks, ` : ''}${
           short(report.model.parameters / 1e6)} M parameters, ${report.model.dtype}. `,
       `Quantised to ${schemes.slice(0, 6).join('; ')}${
           schemes.length > 6 ? `; and ${schemes.length - 6} more` : ''}. `,
       calibration.rows ? `Calibrated on ${calibration.rows} rows of ${calibration.seq_len} tokens.` :
                          'Without calibration data.'),
    report.converted &&
        el('p', {class: 'warn'},
           `Converted from ${report.converted.from} to ${
               report.converted.to}; the figures are those of the run that rounded it.`),
    report.verification &&
        el('p', {class: report.verification.passed ? 'good' : 'bad'},
           report.verification.passed ?
               '✓ All checks of the artefact passed.' :
               `✗ ${report.verification.failed.length} check(s) of the artefact failed: don’t use it.`),
    el('div', {class: 'tiles'}, tiles)
  ];
}

function findings() {
  const failed = report.verification?.failed ?? [];
  if (!failed.length && !report.warnings.length) return null;
  return [
    report.warnings.length > 0 &&
        el('ul', {}, report.warnings.map((text) => el('li', {class: 'warn'}, text))),
    failed.length > 0 &&
        table(
            [
              ['check', (row) => row.check], ['where', (row) => row.name, {name: true}],
              ['expected', (row) => row.expected, {text: true}], ['found', (row) => row.found, {text: true}]
            ],
            failed)
  ];
}

const superscript = (exponent) =>
    String(exponent).replace('-', '⁻').replace(/\d/g, (digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[digit]);
// Four characters at most, for a phone's cell; the cell's title has the rest.
const figureOf = (value) => value === 0 ? '0' :
    value >= 9950                       ? '>9k' :
    value >= 995                        ? `${(value / 1000).toFixed(1)}k` :
    value < 0.095                       ? '<.1' :
                                          String(Number(value.toPrecision(2)));
// What stands behind the last block is the head.
const blockName = (block) => report.model.blocks && block === report.model.blocks ? 'head' : block;
// Values of roles (rows) and blocks, coloured by their logarithm. valueOf(role, block): null where there is none.
function heat(label, roles, blocks, valueOf) {
  const cells = roles.map((role) => blocks.map((block) => valueOf(role, block)));
  const logs = cells.flat().filter(positive).map(Math.log);
  const low = least(logs), span = Math.max(most(logs) - low, 1e-9);
  const every = Math.ceil(blocks.length / 24);  // labels of blocks must not touch
  const unit = Math.floor(Math.log10(median(cells.flat().filter(positive)) ?? 1));
  const nodes =
      blocks.map((block, i) => el('b', {style: {'--role': 1, '--block': i + 2}}, i % every ? '' : blockName(block)));
  roles.forEach((role, r) => {
    nodes.push(el('b', {class: 'role', style: {'--role': r + 2, '--block': 1}}, role.replace(/_proj/g, '')));
    blocks.forEach((block, i) => {
      const value = cells[r][i], heat = positive(value) ? (Math.log(value) - low) / span : 0;
      nodes.push(
          el('i', {
            class: value === null ? 'none' :
                heat > 0.55       ? 'hot' :
                                    null,
            title: `block ${blockName(block)}, ${role}: ${short(value)}`,
            style: {'--role': r + 2, '--block': i + 2, '--heat': heat.toFixed(3)}
          },
             value === null   ? '' :
                 known(value) ? figureOf(value / 10 ** unit) :
                                '?'));
    });
  });
  const map = el(
      'div', {
        class: blocks.length > 12 ? 'heat dense' : 'heat',
        role: 'img',
        style: {'--blocks': blocks.length, '--roles': roles.length},
        'aria-label': `Heat map of the ${label} by role and block; the table holds the same`
      },
      nodes);
  return [
    map,
    el('p', {class: 'faint'}, `${label[0].toUpperCase()}${label.slice(1)}${
        unit ? `, in units of 10${superscript(unit)}` : ''}; the stronger the colour, the larger (logarithmic).`)
  ];
}
// The same of the linears' mean errors.
function errorMap() {
  const place = grouped(linears, (row) => `${row.role} ${row.block}`);
  return heat(
      measureName(), [...byRole().keys()], blocks,
      (role, block) => mean(errors(place.get(`${role} ${block}`) ?? [])));
}
// One line for each role over the blocks. roles(): [role, rows] each; valueOf: of a role's rows in one block.
function byBlock(caption, title, roles, blocks, valueOf) {
  return figure(
      caption,
      () => ({
        type: 'line',
        scales: {x: axis('block'), y: axis(title(), logarithmic)},
        data: {
          labels: blocks.map(blockName),
          datasets: roles().map(([role, rows], index) => {
            const at = grouped(rows, (row) => row.block);
            return line(role, blocks.map((block) => positive(valueOf(at.get(block) ?? []))), index);
          })
        }
      }),
      340);
}
function lost() {
  if (!linears.length) return null;
  const roles = [...byRole()];
  const blocksFigure = byBlock(
      'Mean error of a block’s linears, by role; logarithmic.', measureName, () => roles, blocks,
      (rows) => mean(errors(rows)));
  const roleFigure = figure(
      'Mean and largest error of a role.',
      () => ({
        type: 'bar',
        scales: {x: axis('role'), y: axis(measureName())},
        data: {
          labels: roles.map(([role]) => role),
          datasets: [
            bar('mean', roles.map(([, rows]) => mean(errors(rows))), 0),
            bar('largest', roles.map(([, rows]) => most(errors(rows))), 1)
          ]
        }
      }),
      340);
  const map = el('div', {}, errorMap()), worst = el('div', {}, worstTable());
  const pick = measures.length > 1 && choice('Measure', measures, (value) => {
                                        measure = value;
                                        map.replaceChildren(...errorMap());
                                        worst.replaceChildren(worstTable());
                                        redraw();
                                      }).node;
  return [
    el('p', {},
       'Errors are relative and squared. Weight error: ‖W − Q‖² / ‖W‖². Output error: tr(ΔW H ΔWᵀ) / tr(W H Wᵀ), with the Gram matrix H of the inputs that the layer really gets. ',
       'Importance-weighted error: the same with H’s diagonal alone.'),
    pick && el('div', {class: 'controls'}, pick), el('div', {class: 'charts'}, blocksFigure, roleFigure),
    el('h3', {}, 'By role and block'), map, el('h3', {}, 'Linears that lost most'), worst
  ];
}
function worstTable() {
  const sorted =
      [...linears].sort((a, b) => (b[measure] ?? Infinity) - (a[measure] ?? Infinity)).slice(0, 10);
  return table(
      [
        ['linear', (row) => row.name, {name: true}],
        [measureName(), (row) => row[measure], {number: true, show: short}], ['scheme', (row) => row.scheme],
        ['bits', (row) => row.bits_per_weight, {number: true, show: short}],
        ['events', (row) => row.events.join('; ') || null, {text: true}]
      ],
      sorted);
}

// A linear's weights before and after, and its scales.
function weights() {
  const rows = linears.filter((row) => row.histogram), scaled = linears.filter((row) => row.scales);
  if (!rows.length && !scaled.length) return null;
  const parts = [];
  if (rows.length) {
    let chosen = rows.reduce((a, b) => (b[measure] ?? 0) > (a[measure] ?? 0) ? b : a);
    const about = el('p', {class: 'faint'});
    const describe = () => {
      const {scales, clipped, outliers, ratio, histogram: {clip}} = chosen;
      about.textContent = [
        chosen.scheme,
        clip &&
            (clip.least === clip.largest ? `its grid reaches ±${short(clip.median)}` :
                                           `a group’s grid reaches ±${short(clip.median)} in the median, ${
                                               short(clip.least)} to ${short(clip.largest)}`),
        scales && `scales ${short(scales.least)} to ${short(scales.largest)}, median ${short(scales.median)}`,
        clipped && 'clipped to a range that a transform chose', ratio != null && `AWQ ratio ${short(ratio)}`,
        outliers > 0 && `${count(outliers)} outliers kept beside the grid`
      ].filter(Boolean).join('; ');
    };
    const node = figure(
        'A sample of the linear’s weights, folds applied, before and after rounding; counts are logarithmic.',
        () => {
          const {limit, before, after, clip} = chosen.histogram, width = 2 * limit / before.length;
          const reach = clip && known(clip.median) && clip.median <= limit;
          return {
            type: 'bar',
            plugins: reach ? [marks([-clip.median, clip.median], limit, 3)] : [],
            options: {
              plugins: {
                legend: {
                  display: true,
                  labels: {color: colour('text'), usePointStyle: true, pointStyleWidth: 24, boxHeight: 8}
                },
                tooltip: binTooltip(-limit, width)
              }
            },
            scales: {x: binned('weight', -limit, limit), y: axis('weights', counts)},
            data: {
              datasets: [
                bar('after', atCentres(after.map(positive), -limit, width), 1, {...kBin, pointStyle: 'rect'}),
                {
                  ...line('before', atCentres(before.map(positive), -limit, width), 0),
                  type: 'line',
                  pointStyle: 'line',
                  stepped: 'middle',
                  pointRadius: 0,
                  spanGaps: false
                },
                ...reach ? [{
                  ...line('reach of a group’s grid, median', [], 3),
                  type: 'line',
                  borderDash: kDashes,
                  pointStyle: 'line',
                  pointRadius: 0
                }] :
                           []
              ]
            }
          };
        },
        320);
    const chart = charts.at(-1);
    const controls = picker('Linear', rows, chosen, (row) => row.name, (row) => {
      chosen = row;
      describe();
      drawChart(chart);
    });
    describe();
    parts.push(controls, about, node);
  }
  if (scaled.length) {
    const ranges = (caption, title, groups) => figure(
        caption,
        () => ({
          type: 'bar',
          scales: {x: axis(title), y: axis('scale', logarithmic)},
          data: {
            labels: groups.map(([name]) => name),
            datasets: [
              {
                ...line(
                    'median', groups.map(([, all]) => positive(median(all.map((row) => row.scales.median)))),
                    1),
                showLine: false,
                pointRadius: 4,
                type: 'line'
              },
              bar('least to largest',
                  groups.map(
                      ([, all]) =>
                          [Math.max(least(all.map((row) => row.scales.least)), 1e-38),
                           most(all.map((row) => row.scales.largest))]),
                  0)
            ]
          }
        }));
    parts.push(
        el('div', {class: 'charts'},
           ranges('Scales of a role.', 'role', [...grouped(scaled, (row) => row.role)]),
           ranges('Scales of a block.', 'block', [...grouped(scaled, (row) => blockName(row.block))])));
    parts.push(scaleHistogram());
  }
  if (totals.outliers > 0) {
    parts.push(
        el('p', {},
           `${count(totals.outliers)} weights stand beside their grid and take ${
               bytes(totals.outlier_bytes)}.`),
        el('div', {class: 'charts'},
           [['role', [...byRole()]], ['block', [...grouped(linears, (row) => blockName(row.block))]]].map(
               ([title, groups]) => figure(
                   `Outliers kept beside the grid, by ${title}.`,
                   () => ({
                     type: 'bar',
                     scales: {x: axis(title), y: axis('weights')},
                     data: {
                       labels: groups.map(([name]) => name),
                       datasets: [bar(
                           'outliers',
                           groups.map(([, all]) => all.reduce((sum, row) => sum + row.outliers, 0)), 6)]
                     }
                   })))));
  }
  return parts;
}

// The scales of a role's linears, by their logarithm.
const powerOfTwo = (exponent) => `2${superscript(exponent)}`;
function scaleHistogram() {
  const rows = report.scale_histograms ?? [];
  if (!rows.length) return null;
  let chosen = rows[0];
  const about = el('p', {class: 'faint'});
  const describe = () => {
    about.textContent = `${count(chosen.counts.reduce((a, b) => a + b, 0))} scales, ${
        short(chosen.least)} to ${short(chosen.largest)}, median ${short(chosen.median)}${
        chosen.zeros ? `; ${count(chosen.zeros)} more are 0` : ''}`;
  };
  const node = figure('A sample of the scales of a role’s linears, a quarter of an octave a bin.', () => {
    const low = chosen.first / 4, high = low + chosen.counts.length / 4;
    const step = Math.max(1, Math.ceil((high - low) / 8));
    return {
      type: 'bar',
      options: {plugins: {tooltip: binTooltip(low, 0.25, (exponent) => short(2 ** exponent))}},
      scales: {
        x: binned(
            'scale', Math.floor(low), Math.ceil(high),
            {stepSize: step, callback: powerOfTwo, includeBounds: true}),
        y: axis('scales', {scale: {beginAtZero: true}})
      },
      data: {datasets: [bar('scales', atCentres(chosen.counts, low, 0.25), 2, kBin)]}
    };
  });
  const chart = charts.at(-1);
  const pick = choice('Scales of', rows.map((row, i) => [i, row.role]), (index) => {
    chosen = rows[index];
    describe();
    drawChart(chart);
  });
  describe();
  return el('div', {}, el('div', {class: 'controls'}, pick.node), about, node);
}

// What linears read, and the range that a static grid of it spans.
const kSlotOf = {
  lm_head: 'head_in',
  q_proj: 'attention_in',
  k_proj: 'attention_in',
  v_proj: 'attention_in',
  qkv_proj: 'attention_in',
  o_proj: 'attention_out',
  gate_proj: 'mlp_in',
  up_proj: 'mlp_in',
  gate_up_proj: 'mlp_in',
  down_proj: 'mlp_mid'
};
// One input's values, with the range that its static grid spans.
function inputHistograms() {
  const rows = report.input_histograms ?? [];
  if (!rows.length) return null;
  let chosen = rows.reduce((a, b) => b.limit > a.limit ? b : a);
  const about = el('p', {class: 'faint'});
  const centre = (i) => ((i + 0.5) * 2 / chosen.counts.length - 1) * chosen.limit;
  const beyond = (i) => known(chosen.clip) && Math.abs(centre(i)) > chosen.clip;
  const describe = () => {
    const all = chosen.counts.reduce((a, b) => a + b, 0);
    about.textContent = `${count(all)} values, up to ${short(chosen.limit)}; ` +
        (known(chosen.clip) ? `the static grid spans ±${short(chosen.clip)}` : 'no static grid clips them');
  };
  const node = figure('A sample of what linears read, folds applied; counts are logarithmic.', () => {
    const {clip, limit} = chosen, width = 2 * limit / chosen.counts.length;
    const split = (wanted) => atCentres(
        chosen.counts.map((value, i) => beyond(i) === wanted ? positive(value) : null), -limit, width);
    return {
      type: 'bar',
      options: {plugins: {tooltip: binTooltip(-limit, width)}},
      scales: {x: binned('x', -limit, limit), y: axis('values', counts)},
      data: {
        datasets: known(clip) ?
            [bar('within the grid', split(false), 0, kBin), bar('beyond it', split(true), 3, kBin)] :
            [bar('values', split(false), 0, kBin)]
      }
    };
  }, 320);
  const chart = charts.at(-1);
  const controls = picker('Input', rows, chosen, (row) => row.input, (row) => {
    chosen = row;
    describe();
    drawChart(chart);
  });
  describe();
  return [controls, about, node];
}
function inputs() {
  const seen = report.activations, clipped = linears.filter((row) => known(row.input_limit));
  const histograms = inputHistograms();
  if (!seen.length && !clipped.length) return histograms;
  const slotOf = (row) => row.input.replace(/^expert \d+, | of expert \d+$/g, '');
  const slots =
      [...new Set([...seen.map(slotOf), ...clipped.map((row) => kSlotOf[row.role]).filter(Boolean)])];
  const figures = slots.map((slot) => {
    const rows = grouped(seen.filter((row) => slotOf(row) === slot), (row) => row.block);
    const grids = grouped(clipped.filter((row) => kSlotOf[row.role] === slot), (row) => row.block);
    const at = [...new Set([...rows.keys(), ...grids.keys()])].sort((a, b) => a - b);
    const values = (groups, key) =>
        at.map((block) => positive(most((groups.get(block) ?? []).map((row) => row[key]).filter(known))));
    const sets = [
      ['largest |x|', rows, 'abs_max'], ['99.99 % of |x|', rows, 'abs_p9999'], ['mean |x|', rows, 'mean_abs'],
      ['spanned by the static grid', grids, 'input_limit']
    ];
    return figure(
        `${slot}: what linears read, by block; logarithmic.`,
        () => ({
          type: 'line',
          scales: {x: axis('block'), y: axis('|x|', logarithmic)},
          data: {
            labels: at.map(blockName),
            datasets: sets.flatMap(
                ([label, groups, key], i) => groups.size ?
                    [line(label, values(groups, key), i, i === 3 ? {borderDash: [6, 4]} : {})] :
                    [])
          }
        }));
  });
  return [
    seen.length > 0 &&
        el('p', {class: 'faint'},
           'Inputs are those of all calibration tokens before a transform moved scales; a static grid is for them afterwards.'),
    el('div', {class: 'charts'}, figures), histograms,
    seen.length > 0 &&
        table(
            [
              ['block', (row) => row.block, {number: true}], ['input', (row) => row.input],
              ['largest', (row) => row.abs_max, {number: true, show: short}],
              ['99.99 %', (row) => row.abs_p9999, {number: true, show: short}],
              ['mean', (row) => row.mean_abs, {number: true, show: short}],
              ['kurtosis', (row) => row.kurtosis, {number: true, show: short}],
              ['outlier channels', (row) => row.outlier_channels, {number: true}],
              ['channel spread', (row) => row.channel_spread, {number: true, show: short}],
              ['token spread', (row) => row.token_spread, {number: true, show: short}]
            ],
            seen, 12)
  ];
}

// What a budget chose among.
function budget() {
  if (!report.budget) return null;
  const {budget: asked, chosen, candidates, frontier, uniform, groups, measured} = report.budget;
  const points = (mixtures) => mixtures.map((mixture) => ({x: mixture.bits_per_weight, y: mixture.kl}));
  const words = Object.entries(asked).map(
      ([key, value]) =>
          `${key.replaceAll('_', ' ')} ${['size', 'vram'].includes(key) ? bytes(value) : short(value)}`);
  return [
    el('p', {},
       `Held to ${words.join(', ')}: ${short(chosen.bits_per_weight)} bits for each weight of these groups, ${
           bytes(chosen.bytes)} in all, a predicted KL divergence of ${short(chosen.kl)} nats${
           report.evaluation ? `; on the text of the evaluation it is ${short(report.evaluation.kl_mean)}` : ''}.`),
    !report.sensitivity &&
        el('p', {},
           `What each group loses was ${measured.loss === 'kl' ? 'measured' : 'estimated from gradients'} on ${
               count(measured.held_out_tokens)} tokens held out of calibration.${rankCorrelations(measured)}`),
    figure(
        'Mixtures that no other one beats, and one candidate for all groups; logarithmic.',
        () => ({
          type: 'scatter',
          scales: {x: axis('bits per weight'), y: axis('predicted KL, nats', logarithmic)},
          options: {
            plugins: {
              tooltip: {
                mode: 'nearest',
                intersect: false,
                callbacks: {
                  label: ({dataset, dataIndex, raw}) =>
                      `${dataset.label}${dataset.names ? ` ${dataset.names[dataIndex]}` : ''}: ${
                          short(raw.x)} bits, KL ${short(raw.y)}`
                }
              },
              legend: {
                display: true,
                labels: {color: colour('text'), boxWidth: 14, boxHeight: 8, usePointStyle: true}
              }
            }
          },
          data: {
            datasets: [
              line('chosen', points([chosen]), 3, {pointRadius: 8, order: 0}),
              line(
                  'uniform', points(uniform), 1,
                  {showLine: false, pointRadius: 6, order: 1, names: uniform.map((row) => row.candidate)}),
              line('frontier', points(frontier), 0, {showLine: true, pointRadius: 0, order: 2})
            ]
          }
        }),
        360),
    table(
        [
          ['mixture', (row) => row.candidate ? `uniform ${row.candidate}` : 'chosen'],
          ['bits per weight', (row) => row.bits_per_weight, {number: true, show: short}],
          ['size', (row) => row.bytes, {number: true, show: bytes}],
          ['predicted KL', (row) => row.kl, {number: true, show: short}]
        ],
        [chosen, ...uniform]),
    el('h3', {}, 'What each group takes'),
    el('p', {class: 'faint'}, 'Below each candidate the predicted KL of it, nats; what was chosen is framed.'),
    table(
        [
          ['group', (row) => row.name, {name: true}], ['takes', (row) => row.candidate, {text: true}],
          ['bytes', (row) => row.bytes, {number: true, show: bytes}],
          ...candidates.map((name, c) => [
            name, (row) => row.losses[c],
            {number: true, show: short, marked: (row) => row.candidate === name}
          ])
        ],
        groups, 12)
  ];
}
// Where KL was measured, how well what costs less foretells its order.
function rankCorrelations({rank_correlation: found}) {
  const told = Object.entries(found).filter(([, rho]) => known(rho));
  if (!told.length) return '';
  return ` Spearman's rank correlation with the measured KL, of all groups and candidates: ${
      told.map(([name, rho]) => `${name.replaceAll('_', ' ')} ${rho.toFixed(2)}`).join(', ')}.`;
}

// What the model loses when one group of its linears alone is quantised.
const kLosses = [
  ['kl', 'KL'], ['fisher', 'estimated KL'], ['output_error', 'relative output error'],
  ['weight_error', 'relative weight error']
];
const kCheap = {
  weight_relative_mse: 'relative weight error',
  output_relative_error: 'relative output error',
  output_error: 'output error',
  fisher: 'Fisher’s estimate'
};
function sensitivity() {
  const found = report.sensitivity;
  if (!found) return null;
  const {candidates, groups, rank_correlation: rank} = found, estimated = found.loss === 'fisher';
  const rows = groups.flatMap(({name, block, role, losses}) => losses.map((row) => ({name, block, role, ...row})));
  const offered = kLosses.filter(([key]) => rows.some((row) => known(row[key])));
  // Linears that were measured by themselves.
  const alone = rows.flatMap(
      ({candidate, linears}) => (linears ?? []).map((linear) => ({candidate: candidates[candidate], ...linear})));
  const single = groups.every(({losses}) => losses.length === 1);
  let loss = estimated ? 'fisher' : 'kl', candidate = single ? null : 0;
  const lossName = () => kLosses.find(([key]) => key === loss)[1];
  // Of the head there is no estimate: its KL is measured in any case.
  const lossOf = (row) => loss === 'fisher' && !known(row.fisher) ? row.kl : row[loss];
  const shown = () => rows.filter((row) => row.block !== null && (single || row.candidate === candidate));
  const roles = [...new Set(rows.filter((row) => row.block !== null).map((row) => row.role))];
  const blocks =
      [...new Set(rows.map((row) => row.block).filter((block) => block !== null))].sort((a, b) => a - b);
  // Of several groups in one place (experts of a file that has each by itself) the sum.
  const sum = (some) => {
    const values = some.map(lossOf).filter(known);
    return values.length ? values.reduce((a, b) => a + b) : null;
  };
  const drawMap = () => {
    const place = grouped(shown(), (row) => `${row.role} ${row.block}`);
    return heat(lossName(), roles, blocks, (role, block) => sum(place.get(`${role} ${block}`) ?? []));
  };
  const map = el('div', {}, drawMap());
  const depth = byBlock(
      'Loss of a group, by block and role; logarithmic.', lossName,
      () => [...grouped(shown(), (row) => row.role)], blocks, sum);
  const chart = charts.at(-1);
  // What costs less beside the measured KL, of every pair that has both.
  const against = rows.some((row) => known(row.kl) && known(row.fisher)) ? 'fisher' : 'output_error';
  const pairs = rows.filter((row) => positive(row.kl) && positive(row[against]));
  const versus = pairs.length > 1 &&
      figure(
          `${against === 'fisher' ? 'Estimated' : 'Output error'} and measured KL of a group; logarithmic.`,
          () => ({
            type: 'scatter',
            scales: {
              x: axis(against === 'fisher' ? 'estimated KL' : 'relative output error', logarithmic),
              y: axis('measured KL', logarithmic)
            },
            options: {
              plugins: {
                legend: {
                  display: candidates.length > 1,
                  labels: {color: colour('text'), boxWidth: 14, boxHeight: 8, usePointStyle: true}
                },
                tooltip: {
                  mode: 'nearest',
                  intersect: false,
                  callbacks: {
                    label: ({dataset, dataIndex, raw}) =>
                        `${dataset.names[dataIndex]}, ${dataset.label}: ${short(raw.x)}, measured ${short(raw.y)}`
                  }
                }
              }
            },
            data: {
              datasets: candidates.map((label, c) => {
                const mine = pairs.filter((row) => row.candidate === c);
                return line(
                    label, mine.map((row) => ({x: row[against], y: row.kl})), c,
                    {showLine: false, pointRadius: 3, names: mine.map((row) => row.name)});
              })
            }
          }),
          340);
  const change = (set) => (value) => {
    set(value);
    map.replaceChildren(...drawMap());
    drawChart(chart);
  };
  const told = estimated ?
      `estimated from gradients on ${count(found.held_out_tokens)} tokens held out of calibration${
          known(found.checked_tokens) ?
              `; of some groups KL was measured, too, on ${count(found.checked_tokens)} of them, to check the estimate` :
              ''}` :
      `KL measured on ${count(found.held_out_tokens)} tokens held out of calibration`;
  const aboutHead = estimated && rows.some((row) => row.block === report.model.blocks) ?
      ' Of the head KL is measured in any case, and there is no estimate.' :
      '';
  const total = rows.reduce((all, row) => all + (row[estimated ? 'fisher' : 'kl'] ?? row.kl ?? 0), 0);
  return [
    el('p', {},
       `What the model loses when one group of its linears is quantised and nothing else, nats: ${told}.${aboutHead}${
           single ? ` The sum over groups, ${short(total)}, predicts what all of them lose together${
                        evaluation ? `; on the text of the evaluation it is ${short(evaluation.kl_mean)}` : ''}.` :
                    ''}`),
    el('div', {class: 'controls'},
       !single &&
           choice(
               'Candidate', candidates.map((label, c) => [c, label]),
               change((value) => { candidate = Number(value); }))
               .node,
       offered.length > 1 &&
           choice(
               'Loss', [...offered].sort(([a], [b]) => (b === loss) - (a === loss)),
               change((value) => { loss = value; }))
               .node),
    el('div', {class: 'charts'}, depth, versus), el('h3', {}, 'By role and block'), map,
    rank.pairs.all > 1 && el('h3', {}, 'Rank correlation with the measured KL'),
    rank.pairs.all > 1 &&
        table(
            [
              ['candidate', ([label]) => label], ['pairs', ([, , pairs]) => pairs, {number: true}],
              ...Object.entries(kCheap).map(
                  ([key, label]) => [label, ([, rho]) => rho[key], {number: true, show: short}])
            ],
            [
              ['all', rank.all, rank.pairs.all],
              ...candidates.length > 1 ?
                  candidates.map((label, c) => [label, rank.by_candidate[c], rank.pairs.by_candidate[c]]) :
                  [],
              ...rank.linears ? [['each linear alone', rank.linears, rank.pairs.linears]] : []
            ]),
    el('h3', {}, 'Every group'),
    table(
        [
          ['group', (row) => row.name, {name: true}], ['linears', (row) => row.role],
          ['candidate', (row) => candidates[row.candidate]],
          ...offered.map(([key, label]) => [label, (row) => row[key], {number: true, show: short}])
        ],
        rows, 12),
    alone.length > 0 && el('h3', {}, 'Every linear alone'),
    alone.length > 0 &&
        table(
            [
              ['linear', (row) => row.name, {name: true}], ['candidate', (row) => row.candidate],
              ...kLosses.filter(([key]) => alone.some((row) => known(row[key])))
                  .map(([key, label]) => [label, (row) => row[key], {number: true, show: short}])
            ],
            alone, 12)
  ];
}
function kvCache() {
  if (!report.kv_cache.length) return null;
  const says = el('p', {}, `${report.kv_cache[0].scheme}, ${report.kv_cache.length} layers.`);
  if (report.kv_cache.every((row) => row.k_scale === null)) return [says];
  return [
    says,
    figure(
        'Scales of keys and values by block.',
        () => ({
          type: 'line',
          scales: {x: axis('block'), y: axis('scale', logarithmic)},
          data: {
            labels: report.kv_cache.map((row) => row.block),
            datasets: [
              line('keys', report.kv_cache.map((row) => positive(row.k_scale)), 0),
              line('values', report.kv_cache.map((row) => positive(row.v_scale)), 1)
            ]
          }
        }))
  ];
}
function experts() {
  if (!report.experts.length) return null;
  const of = (pick) => report.experts.map((row) => positive(pick(row.tokens)));
  return [
    figure(
        'Calibration tokens that the router sent to an expert, by block; logarithmic (none is not shown).',
        () => ({
          type: 'line',
          scales: {x: axis('block'), y: axis('tokens', logarithmic)},
          data: {
            labels: report.experts.map((row) => row.block),
            datasets: [line('most', of(most), 0), line('median', of(median), 2), line('fewest', of(least), 1)]
          }
        })),
    table(
        [
          ['block', (row) => row.block, {number: true}],
          ['experts', (row) => row.tokens.length, {number: true}],
          ['fewest tokens', (row) => least(row.tokens), {number: true, show: count}],
          ['most', (row) => most(row.tokens), {number: true, show: count}],
          ['took the fall-back', (row) => row.below_floor, {number: true}]
        ],
        report.experts)
  ];
}
function events() {
  const rows = linears.flatMap((row) => row.events.map((event) => ({name: row.name, event})));
  const refused = report.folds.filter((fold) => !fold.applied);
  if (!rows.length && !report.folds.length) return null;
  return [
    rows.length > 0 &&
        table(
            [['linear', (row) => row.name, {name: true}], ['event', (row) => row.event, {text: true}]], rows),
    report.folds.length > 0 &&
        el('h3', {}, `Folds: ${report.folds.length - refused.length} of ${report.folds.length} made`),
    report.folds.length > 0 &&
        table(
            [
              ['producer', (row) => row.producer, {name: true}], ['feeds', (row) => row.slot],
              ['transform', (row) => row.transform],
              ['folded', (row) => row.applied ? 'yes' : `no: ${row.note}`, {text: true}],
              ['ratio', (row) => row.applied ? row.ratio : null, {number: true, show: short}],
              ['loss without', (row) => row.loss_before, {number: true, show: short}],
              ['loss with', (row) => row.loss_after, {number: true, show: short}]
            ],
            report.folds, 12)
  ];
}
function time() {
  const memory = report.memory,
        rows = ['ram', 'vram', 'disk']
                   .map((kind) => ({
                          kind,
                          limit: memory.limits[kind],
                          planned: memory.planned[kind],
                          peak: memory.peak[kind]
                        }))
                   .filter((row) => row.limit || row.planned || row.peak);
  const names = {ram: 'memory', vram: 'on the device', disk: 'temporary files'};
  return [el(
      'div', {class: 'charts'},
      figure(
          'Seconds of each stage.',
          () => ({
            type: 'bar',
            options: {indexAxis: 'y'},
            scales: {x: axis('s'), y: axis('')},
            data: {
              labels: report.stages.map((stage) => stage.name),
              datasets: [bar('seconds', report.stages.map((stage) => stage.seconds), 0)]
            }
          }),
          60 + 34 * report.stages.length),
      el('div', {},
         table(
             [
               ['', (row) => names[row.kind]], ['peak', (row) => row.peak, {number: true, show: bytes}],
               ['planned at most', (row) => row.planned || null, {number: true, show: bytes}],
               ['limit', (row) => row.limit, {number: true, show: bytes}]
             ],
             rows),
         el('p', {class: 'faint'},
            `Lathe ${report.environment.version}, ${report.environment.compiler}; ${
                report.environment.compute_dtype} products${
                report.environment.matrix_products ? ` by ${report.environment.matrix_products}` : ''}.`)))];
}
function everyLinear() {
  return [
    linears.length > 0 &&
        table(
            [
              ['linear', (row) => row.name, {name: true}], ['scheme', (row) => `${row.scheme} ${row.solver}`],
              ['bits', (row) => row.bits_per_weight, {number: true, show: short}],
              ...measures.map(([key, name]) => [name, (row) => row[key], {number: true, show: short}]),
              ['clipped', (row) => row.clipped ? 'yes' : 'no'],
              ...linears.some((row) => row.input_overflow) ?
                  [[
                    'inputs clipped', (row) => row.input_overflow?.share ?? null,
                    {number: true, show: (share) => percent(share, 4)}
                  ]] :
                  [],
              ['s', (row) => row.seconds, {number: true, show: short}]
            ],
            linears),
    report.tensors.length > 0 && el('h3', {}, 'Tensors of the file'),
    report.tensors.length > 0 &&
        table(
            [
              ['tensor', (row) => row.name, {name: true}], ['type', (row) => row.type],
              ['shape', (row) => row.shape.join(' x ')],
              ['bits', (row) => row.bits_per_weight, {number: true, show: short}],
              ['weight error', (row) => row.weight_error, {number: true, show: short}],
              ['importance-weighted', (row) => row.importance_weighted_error, {number: true, show: short}]
            ],
            report.tensors),
    report.kept.length > 0 && el('h3', {}, 'Left in floating point'),
    report.kept.length > 0 &&
        table(
            [['linear', (row) => row.name, {name: true}], ['why', (row) => row.reason, {text: true}]],
            report.kept)
  ];
}
// The little of Markdown that texts on loading use: paragraphs, indented blocks and `code`.
function markdown(text) {
  const pieces = (paragraph) =>
      paragraph.split(/(`[^`]+`)/)
          .map((part) => part.startsWith('`') && part.length > 2 ? el('code', {}, part.slice(1, -1)) : part);
  return text.trim().split(/\n\s*\n/).map(
      (part) => part.split('\n').every((row) => row.startsWith('    ')) ?
          el('pre', {}, part.split('\n').map((row) => row.slice(4)).join('\n')) :
          el('p', {}, pieces(part.replace(/\n/g, ' '))));
}
function use() {
  return [
    howToLoad ? markdown(howToLoad) : null, consumers.length > 0 && el('h3', {}, 'What consumers make of it'),
    consumers.length > 0 && el('ul', {}, consumers.map((text) => el('li', {}, text)))
  ];
}
function recipe() {
  return [
    el('p', {}, 'With every default filled in. JSON is YAML: saved as a file, ',
       el('code', {}, measuredOnly ? 'quantize sensitivity --recipe' : 'quantize --recipe'), ' takes it.'),
    el('pre', {tabindex: 0}, JSON.stringify(report.recipe, null, 2))
  ];
}

const kParts = [
  ['Warnings and checks', findings], ['Budget', budget], ['Sensitivity', sensitivity], ['What was lost', lost],
  ['Weights and scales', weights], ['Inputs', inputs], ['KV cache', kvCache], ['Experts', experts],
  ['Events and folds', events], ['Time and memory', time], ['How to load it', use], ['Recipe', recipe],
  ['Every linear', everyLinear]
];
const sections = kParts.map(([title, make], index) => ({title, id: `part-${index}`, nodes: make()}))
                     .filter(({nodes}) => nodes && nodes.flat().some((node) => node));
const name = report.model.path.split('/').filter(Boolean).pop() ?? report.model.path;
document.title = `${name}: ${measuredOnly ? 'sensitivity' : 'quantisation report'}`;
document.body.append(
    el('nav', {'aria-label': 'parts'},
       el('div', {}, sections.map(({title, id}) => el('a', {href: `#${id}`}, title)))),
    el('main', {}, el('h1', {}, document.title),
       (measuredOnly ? measuredSummary() : summary()).flat().filter(Boolean),
       sections.map(({title, id, nodes}) => el('section', {id}, el('h2', {}, title), nodes))));
Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
redraw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
