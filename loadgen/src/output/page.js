// Under the pointer: the values of all lines of a plot. The page is complete without it.
for (const stage of document.querySelectorAll('.stage')) {
  const svg = stage.querySelector('svg'), tip = stage.querySelector('.tip'), cross = stage.querySelector('.cross');
  const lines = [...svg.querySelectorAll('path')].map(path => ({
    label: path.dataset.label,
    at: [...path.getAttribute('d').matchAll(/[ML]([\d.]+)/g)].map(match => Number(match[1])),
    heads: path.dataset.x.split('|'),
    values: path.dataset.y.split('|'),
  })).filter(line => line.at.length > 0);
  const hide = () => { tip.hidden = true; cross.classList.remove('on'); };
  const show = event => {
    const box = svg.getBoundingClientRect(), scale = 560 / box.width;
    const x = (event.clientX - box.left) * scale;
    if (x < 60 || x > 548 || lines.length === 0) return hide();
    const nearest = line => line.at.reduce((best, at, i) => Math.abs(at - x) < Math.abs(line.at[best] - x) ? i : best, 0);
    const first = nearest(lines[0]);
    const rows = lines.map(line => line.values[nearest(line)] + '  ' + line.label);
    tip.textContent = [lines[0].heads[first], ...rows].join('\n');
    tip.hidden = false;
    const at = lines[0].at[first];
    cross.setAttribute('x1', at); cross.setAttribute('x2', at); cross.classList.add('on');
    const left = at / scale, fits = left + 16 + tip.offsetWidth < box.width;
    tip.style.left = Math.max(0, fits ? left + 12 : left - 12 - tip.offsetWidth) + 'px';
  };
  svg.addEventListener('pointermove', show);
  svg.addEventListener('pointerdown', show);
  svg.addEventListener('pointerleave', hide);
}
