"""Charts of measured figures as SVG, for the results' pages: horizontal bars, and lines over logarithmic axes."""

import html
import math

FONT = 'font-family="system-ui, sans-serif" font-size="13"'
OWN, OTHER, TEXT, GRID = "#1f77b4", "#b0b7c3", "#24292f", "#d8dee4"
COLOURS = [OWN, "#d9822b", "#2e8b57"]


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{TEXT}" {FONT} {extra}>{html.escape(words)}</text>'


def document(width, height, parts):
    # A ground of its own: a page may be dark.
    ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join([ground, *parts]) + "\n</svg>\n"


def bars(groups, unit):
    """`groups`: (heading, [(name, value, note, own)]). Each group has a scale of its own."""
    left, length, row = 170, 420, 24
    parts, y = [], 8
    for heading, rows in groups:
        y += 22
        parts.append(text(12, y, heading, extra='font-weight="600"'))
        most = max(value for _, value, _, _ in rows)
        for name, value, note, own in rows:
            y += row
            size = max(1.0, length * value / most)
            parts.append(text(left - 8, y, name, "end"))
            parts.append(f'<rect x="{left}" y="{y - 13}" width="{size:.1f}" height="17" fill="{OWN if own else OTHER}"/>')
            parts.append(text(left + size + 6, y, f"{value:,.0f} {unit}{note}"))
        y += 12
    return document(left + length + 240, y + 8, parts)


def decades(low, high):
    return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high) - 1e-9) + 1)]


def lines(title, across, up, series):
    """`series`: (name, [(x, y)]), both axes logarithmic; the first has a thin line of slope one through its last point."""
    width, height, left, right, top, bottom = 560, 360, 78, 150, 40, 50
    points = [point for _, of in series for point in of]
    xs, ys = decades(*bounds(points, 0)), decades(*bounds(points, 1))

    def place(x, y):
        across = (math.log10(x) - math.log10(xs[0])) / (math.log10(xs[-1]) - math.log10(xs[0]))
        up = (math.log10(y) - math.log10(ys[0])) / (math.log10(ys[-1]) - math.log10(ys[0]))
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = [text(left, 22, title, extra='font-weight="600"')]
    for x in xs:
        at, low = place(x, ys[0])
        parts.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{low:.1f}" stroke="{GRID}"/>')
        parts.append(text(at, low + 18, f"{x:,g}", "middle"))
    for y in ys:
        at = place(xs[0], y)[1]
        parts.append(f'<line x1="{left}" y1="{at:.1f}" x2="{width - right}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(text(left - 8, at + 4, f"{y:,g}", "end"))
    parts.append(text((left + width - right) / 2, height - 10, across, "middle"))
    parts.append(f'<g transform="rotate(-90 16 {height / 2})">{text(16, height / 2, up, "middle")}</g>')
    parts.append(proportional(series[0][1], place, ys))
    for colour, (name, of) in zip(COLOURS, series):
        places = [place(*point) for point in of]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        parts.append(text(places[-1][0] + 10, places[-1][1] + 4, name))
    return document(width, height, parts)


def bounds(points, axis):
    values = [point[axis] for point in points]
    return min(values), max(values)


def proportional(points, place, ys):
    """Where cost would be in proportion to size, cut at the lower edge."""
    (x, y), first = points[-1], points[0][0]
    first = max(first, x * ys[0] / y)
    (x1, y1), (x2, y2) = place(first, y * first / x), place(x, y)
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{TEXT}" stroke-dasharray="2 4"/>'
