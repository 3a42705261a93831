// Small helps of the page: sorting, switching pictures, copying. Without it everything can still be read.
"use strict";
(() => {
  const each = (selector, run, root = document) => root.querySelectorAll(selector).forEach(run);

  // the button of a heading sorts by its column; numbers as numbers, what is missing last
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number.parseFloat(text);
    return { text, number: Number.isNaN(number) ? null : number };
  };
  const sortBy = (table, column, down) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: keyOf(row, column) }));
    const numeric = table.tHead.rows[0].cells[column].dataset.kind === "number";
    rows.sort((a, b) => {
      if (!numeric) return (down ? -1 : 1) * a.key.text.localeCompare(b.key.text, "en", { numeric: true });
      if (a.key.number === null || b.key.number === null) return (a.key.number === null) - (b.key.number === null);
      return (down ? -1 : 1) * (a.key.number - b.key.number);
    });
    body.append(...rows.map((one) => one.row));
  };
  each("table[data-sortable]", (table) => {
    each("thead th", (heading) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        each("th[aria-sort]", (other) => other.removeAttribute("aria-sort"), table);
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        sortBy(table, heading.cellIndex, down);
      });
    }, table);
  });

  each("[data-switch]", (box) => {
    const button = box.querySelector("[data-toggle]");
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      each("[data-frame]", (image) => { image.hidden = (image.dataset.frame === "on") !== on; }, box);
    });
  });

  // flicker starts only when asked for; where motion is unwelcome the button shows the next picture instead
  each("[data-flicker]", (box) => {
    const figures = [...box.querySelectorAll("figure")];
    const radios = [...box.querySelectorAll("input[type=radio]")];
    const button = box.querySelector("[data-play]");
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");
    let timer = 0;
    const show = (index) => {
      figures.forEach((figure, k) => { figure.hidden = k !== index; });
      radios[index].checked = true;
    };
    const next = () => show((radios.findIndex((radio) => radio.checked) + 1) % figures.length);
    const stop = () => {
      window.clearInterval(timer);
      timer = 0;
      button.setAttribute("aria-pressed", "false");
    };
    radios.forEach((radio, index) => radio.addEventListener("change", () => { stop(); show(index); }));
    button.addEventListener("click", () => {
      if (timer) return stop();
      next();
      if (still.matches) return undefined;
      timer = window.setInterval(next, 700);
      button.setAttribute("aria-pressed", "true");
      return undefined;
    });
  });

  each("[data-copy]", (box) => {
    const told = box.querySelector("[data-copied]");
    box.querySelector("[data-copy-button]").addEventListener("click", async () => {
      const text = [...box.querySelectorAll("[data-text]")].map((part) => part.innerText.trim()).join("\n\n");
      try {
        await navigator.clipboard.writeText(text);
        told.textContent = "Copied.";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(box.querySelector("[data-text]"));
        window.getSelection().removeAllRanges();
        window.getSelection().addRange(range);
        told.textContent = "Selected: copy it with the keyboard.";
      }
    });
  });

  // on paper nothing is folded away
  window.addEventListener("beforeprint", () => each("details.printed", (one) => { one.open = true; }));
})();
