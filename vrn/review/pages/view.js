// The large image: its grey levels, size, place and slice, and the pointer that changes them.

const $ = (id) => document.getElementById(id);

export class View {
  // `windowed()` is called when a drag has changed the grey levels.
  constructor(images, painter, windowed) {
    Object.assign(this, { images, painter, windowed, form: images.form });
    this.stage = $("stage");
    this.canvas = $("image");
    this.middle = Math.floor(this.form.depth / 2);
    this.name = null;
    this.grabbed = null;
    this.fit();
    $("slices").max = this.form.depth - 1;
    $("slices").hidden = $("slice").hidden = this.form.depth === 1;
    $("slices").addEventListener("input", () => this.scrollTo(Number($("slices").value)));
    this.listen();
  }

  // Shows an image whose pixels are here, or none.
  show(name) {
    this.name = name;
    this.canvas.style.visibility = name === null ? "hidden" : "";
    if (name === null) return;
    this.slice = this.middle;
    this.fit();
    this.paint();
  }

  paint() {
    const pixels = this.name && this.images.now(this.name);
    if (!pixels) return;
    this.painter.paint(this.canvas, pixels, this.slice);
    const ends = [this.painter.low, this.painter.high].map(Math.round).join(" – ");
    const zoomed = this.zoom === 1 ? "" : ` · ${this.zoom.toFixed(1)} ×`;
    $("readout").textContent = `window ${ends}${zoomed}`;
    $("slice").textContent = `slice ${this.slice + 1} of ${this.form.depth}`;
    $("slices").value = this.slice;
  }

  fit() {
    this.zoom = 1;
    this.x = this.y = 0;
    this.place();
  }

  place() {
    const { clientWidth, clientHeight } = this.stage;
    const { width, height } = this.form;
    const scale = Math.min((clientWidth - 24) / width, (clientHeight - 24) / height);
    const style = this.canvas.style;
    style.width = `${width * scale}px`;
    style.height = `${height * scale}px`;
    style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
  }

  zoomBy(factor) {
    this.zoom = Math.min(32, Math.max(1, this.zoom * factor));
    if (this.zoom === 1) this.x = this.y = 0;
    this.place();
    this.paint();
  }

  scroll(step) {
    this.scrollTo(this.slice + step);
  }

  scrollTo(slice) {
    this.slice = Math.min(this.form.depth - 1, Math.max(0, slice));
    this.paint();
  }

  asAtFirst() {
    this.painter.reset();
    this.paint();
    this.windowed();
  }

  listen() {
    const { stage } = this;
    stage.addEventListener("pointerdown", (event) => {
      if (event.target === $("slices")) return;
      this.grabbed = [event.clientX, event.clientY];
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!this.grabbed) return;
      const [dx, dy] = [event.clientX - this.grabbed[0], event.clientY - this.grabbed[1]];
      this.grabbed = [event.clientX, event.clientY];
      if (event.shiftKey) {
        this.x += dx;
        this.y += dy;
        this.place();
      } else {
        this.painter.drag(dx, dy);
        this.paint();
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, () => {
        if (this.grabbed) this.windowed();
        this.grabbed = null;
      });
    }
    stage.addEventListener("dblclick", () => {
      if (this.zoom > 1) this.fit();
      else this.zoomBy(2);
      this.paint();
    });
    stage.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const up = event.deltaY < 0;
        if (this.form.depth > 1 && !event.shiftKey) this.scroll(up ? 1 : -1);
        else this.zoomBy(up ? 1.1 : 1 / 1.1);
      },
      { passive: false },
    );
    new ResizeObserver(() => this.place()).observe(stage);
  }
}
