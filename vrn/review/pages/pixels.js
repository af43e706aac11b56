// Pixels of images: fetched once, kept in memory, drawn through a window of grey levels.

const MOST_BYTES = 256 * 2 ** 20;

export class Images {
  constructor(form) {
    this.form = form;
    this.kept = new Map(); // name -> pixels; the one used last is last
    this.coming = new Map(); // name -> promise of the same
    this.slicePixels = form.height * form.width * form.channels;
    this.bytes = (this.slicePixels * form.depth * form.bits) / 8;
  }

  // The pixels if they are here, at once.
  now(name) {
    const found = this.kept.get(name);
    if (found) {
      this.kept.delete(name);
      this.kept.set(name, found);
    }
    return found;
  }

  async get(name) {
    const found = this.now(name);
    if (found) return found;
    if (!this.coming.has(name)) {
      this.coming.set(name, this.fetch(name).finally(() => this.coming.delete(name)));
    }
    return this.coming.get(name);
  }

  async fetch(name) {
    const answer = await fetch(`api/images/${name}`);
    if (!answer.ok) throw new Error(`image: ${answer.status}`);
    const buffer = await answer.arrayBuffer();
    const pixels = this.form.bits === 8 ? new Uint8Array(buffer) : new Uint16Array(buffer);
    this.kept.set(name, pixels);
    const most = Math.max(32, Math.floor(MOST_BYTES / this.bytes));
    while (this.kept.size > most) this.kept.delete(this.kept.keys().next().value);
    return pixels;
  }
}

export class Painter {
  constructor(form) {
    this.form = form;
    this.table = new Uint8ClampedArray(2 ** form.bits);
    this.reset();
  }

  reset() {
    this.set(this.form.low, this.form.high);
  }

  // Black at `low` and below, white at `high` and above.
  set(low, high) {
    this.low = low;
    this.high = Math.max(high, low + 1);
    const slope = 255 / (this.high - this.low);
    for (let value = 0; value < this.table.length; value++) {
      this.table[value] = (value - this.low) * slope;
    }
  }

  // Wider or narrower, brighter or darker, by a drag of so many screen pixels.
  drag(dx, dy) {
    const width = Math.min(2 ** (this.form.bits + 1), (this.high - this.low) * Math.exp(dx / 250));
    const centre = (this.low + this.high) / 2 + (dy * width) / 500;
    this.set(centre - width / 2, centre + width / 2);
  }

  // Draws one slice; `size` takes every so-many-th pixel for a small picture.
  paint(canvas, pixels, slice, size = Infinity) {
    const { height, width, channels } = this.form;
    const step = Math.max(1, Math.floor(Math.max(height, width) / size));
    const rows = Math.floor(height / step);
    const columns = Math.floor(width / step);
    if (canvas.width !== columns || canvas.height !== rows) {
      canvas.width = columns;
      canvas.height = rows;
    }
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const words = new Uint32Array(picture.data.buffer); // ABGR, as all browsers' machines order it
    const first = slice * height * width * channels;
    const table = this.table;
    let to = 0;
    for (let row = 0; row < rows; row++) {
      let from = first + row * step * width * channels;
      for (let column = 0; column < columns; column++, from += step * channels) {
        const red = table[pixels[from]];
        words[to++] =
          channels === 1
            ? 0xff000000 | (red * 0x010101)
            : 0xff000000 | (table[pixels[from + 2]] << 16) | (table[pixels[from + 1]] << 8) | red;
      }
    }
    context.putImageData(picture, 0, 0);
  }
}
