// The viewer: NiiVue is unpacked when it is asked for, and shows the volumes that the page holds.
"use strict";
(() => {
  const unpack = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  let loading;
  const library = () => {
    loading ??= (async () => {
      const packed = unpack(document.getElementById("niivue").textContent);
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.niivue;
    })();
    return loading;
  };

  const volume = async (niivue, holder, name) => {
    const made = await niivue.NVImage.loadFromBase64({ base64: holder.textContent.trim(), name: `${name}.nii.gz` });
    return made;
  };

  const open = async (box) => {
    const find = (name) => box.querySelector(`[data-${name}]`);
    const niivue = await library();
    const canvas = box.querySelector("canvas");
    const names = [...find("names").children].map((item) => ({ text: item.textContent, colour: item.dataset.colour }));
    const nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.5, textHeight: 0.05,
      loadingText: "", dragAndDropEnabled: false, logLevel: "silent", isResizeCanvas: true,
    });
    nv.onLocationChange = (place) => {
      const [map, labels] = place.values;
      const where = ["right", "front", "up"].map((word, k) => `${word} ${place.mm[k].toFixed(0)}`).join(", ");
      const region = labels && labels.value > 0 ? names[Math.round(labels.value) - 1]?.text ?? "" : "no region";
      const rate = map && map.value > 0 ? `${map.value.toFixed(1)} 1/s` : "no value";
      find("readout").textContent = `R2* ${rate} · ${region} · ${where} mm`;
      if (document.activeElement?.dataset.axis === undefined) {
        box.querySelectorAll("[data-axis]").forEach((slider) => {
          slider.value = String(Math.round(1000 * nv.scene.crosshairPos[Number(slider.dataset.axis)]));
        });
      }
    };
    await nv.attachToCanvas(canvas, false);
    const map = await volume(niivue, find("r2star"), "r2star");
    map.colormap = "magma";
    map.cal_min = 0;
    map.cal_max = Number(box.dataset.top);
    nv.addVolume(map);
    if (names.length > 0) {
      const labels = await volume(niivue, find("labels"), "labels");
      const channel = (k) => [0, ...names.map((one) => Number.parseInt(one.colour.slice(1 + 2 * k, 3 + 2 * k), 16))];
      labels.setColormapLabel({
        R: channel(0), G: channel(1), B: channel(2), A: [0, ...names.map(() => 255)],
        I: [0, ...names.map((_, k) => k + 1)], labels: ["", ...names.map((one) => one.text)],
      });
      labels.opacity = 0.35;
      nv.addVolume(labels);
    }
    nv.setSliceType(nv.sliceTypeMultiplanar);
    nv.setMultiplanarLayout(niivue.MULTIPLANAR_TYPE?.ROW ?? 3);
    nv.scene.crosshairPos = nv.mm2frac(box.dataset.start.split(" ").map(Number));
    nv.updateGLVolume();
    nv.createOnLocationChange();
    const low = find("low"), high = find("high"), opacity = find("opacity");
    const window_ = () => {
      if (Number(high.value) <= Number(low.value)) high.value = String(Number(low.value) + 1);
      find("low-text").textContent = low.value;
      find("high-text").textContent = high.value;
      nv.volumes[0].cal_min = Number(low.value);
      nv.volumes[0].cal_max = Number(high.value);
      nv.updateGLVolume();
    };
    low.addEventListener("input", window_);
    high.addEventListener("input", window_);
    opacity.addEventListener("input", () => {
      find("opacity-text").textContent = opacity.value;
      if (nv.volumes[1]) nv.setOpacity(1, Number(opacity.value) / 100);
    });
    box.querySelectorAll("[data-axis]").forEach((slider) => slider.addEventListener("input", () => {
      const place = [...nv.scene.crosshairPos];
      place[Number(slider.dataset.axis)] = Number(slider.value) / 1000;
      nv.scene.crosshairPos = place;
      nv.drawScene();
      nv.createOnLocationChange();
    }));
    box.dataset.ready = "yes";
  };

  document.querySelectorAll("[data-viewer]").forEach((box) => {
    const button = box.querySelector("[data-open]");
    button.addEventListener("click", async () => {
      button.disabled = true;
      box.querySelector("[data-panel]").hidden = false;
      try {
        const probe = document.createElement("canvas").getContext("webgl2");
        if (!probe) throw new Error("WebGL 2 is switched off in this browser");
        probe.getExtension("WEBGL_lose_context")?.loseContext();
        await open(box);
        button.parentElement.hidden = true;
      } catch (error) {
        const trouble = box.querySelector("[data-trouble]");
        trouble.textContent = `The viewer can't start (${error.message}). The pictures above show the same; the maps are NIfTI files in this folder.`;
        trouble.hidden = false;
        box.querySelector("[data-panel]").hidden = true;
      }
    });
  });
})();
