// Grid mode: many images at once, the bad ones are marked, one key labels all of them.

const CELLS = 24;
const SIZE = 256;

export class Grid {
  // `enter(indices, bad)` gets the shown tasks and which of them are marked.
  constructor(images, painter, middle, enter) {
    Object.assign(this, { images, painter, middle, enter });
    this.root = document.getElementById("grid");
    this.cells = document.getElementById("cells");
    this.shown = [];
  }

  get open() {
    return !this.root.hidden;
  }

  // Shows the first of `tasks` whose indices are given.
  show(tasks, indices) {
    this.shown = indices.slice(0, CELLS);
    this.began = performance.now();
    this.cells.replaceChildren(
      ...this.shown.map((index) => {
        const cell = document.createElement("button");
        cell.type = "button";
        cell.ariaPressed = "false";
        cell.ariaLabel = `image ${index + 1}`;
        cell.dataset.place = tasks[index].place;
        const canvas = cell.appendChild(document.createElement("canvas"));
        this.images.get(tasks[index].image).then(
          (pixels) => this.painter.paint(canvas, pixels, this.middle, SIZE),
          () => cell.replaceChildren("not loaded"),
        );
        cell.addEventListener("click", () => this.mark(cell));
        return cell;
      }),
    );
    this.cells.firstElementChild?.focus();
  }

  mark(cell) {
    cell.ariaPressed = cell.ariaPressed === "true" ? "false" : "true";
  }

  finish() {
    if (!this.shown.length) return;
    const bad = Array.from(this.cells.children, (cell) => cell.ariaPressed === "true");
    const seconds = (performance.now() - this.began) / 1000 / this.shown.length;
    this.enter(this.shown, bad, seconds);
  }

  // Returns whether the key was one of the grid's.
  key(name) {
    const cells = Array.from(this.cells.children);
    const at = cells.indexOf(document.activeElement);
    const columns = getComputedStyle(this.cells).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[name];
    if (step) cells[Math.min(cells.length - 1, Math.max(0, at + step))]?.focus();
    else if (name === " " && at >= 0) this.mark(cells[at]);
    else if (name === "Enter") this.finish();
    else return false;
    return true;
  }
}
