// The latents section: opening, filtering, and a person's decisions. These are kept by the browser, or, where the page
// comes from `ssae-debias review` (which puts its token into a meta element), by that server in decisions.json.
function reviewLatents(section, tools) {
  const table = section.querySelector("table.latents");
  const find = (id) => section.querySelector(`#latents-${id}`);
  const key = `ssae-debias decisions ${section.dataset.key}`;
  const saes = JSON.parse(section.dataset.saes);
  const token = document.querySelector('meta[name="ssae-debias-review"]')?.content;
  const latents = [...table.tBodies].map((body) => ({
    body,
    site: body.dataset.site,
    latent: Number(body.dataset.latent),
    page: { decision: body.dataset.decision, note: body.dataset.note },
    person: "person" in body.dataset,
    decision: body.dataset.decision,
    note: body.dataset.note,
    words: [...body.rows[0].querySelectorAll(".site, .which, .named, .tokens")]
      .map((cell) => cell.dataset.value).join(" ").toLowerCase(),
  }));
  const called = (latent) => `${latent.site} ${latent.latent}`;
  const name = (latent) => latent.body.querySelector(".named")?.dataset.value;
  const moved = (latent) => latent.decision !== latent.page.decision;
  const noted = (latent) => latent.note !== latent.page.note;
  const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

  // Controls are made here: without a script none would work, so none is there.
  for (const latent of latents) {
    const [row, more] = latent.body.rows;
    more.id = `${latent.body.id}-more`;
    const toggle = document.createElement("button");
    toggle.type = "button";
    toggle.className = "toggle";
    toggle.setAttribute("aria-expanded", "false");
    toggle.setAttribute("aria-controls", more.id);
    toggle.setAttribute("aria-label", [called(latent), name(latent)].filter(Boolean).join(", "));
    toggle.textContent = latent.site;
    row.cells[0].replaceChildren(toggle);
    latent.toggle = toggle;
    latent.shown = row.querySelector(".choice .decision");
    const choice = row.querySelector(".choice");
    choice.append(find("switch").content.cloneNode(true));
    choice.querySelector(".switch").setAttribute("aria-label", `Decision on ${called(latent)}`);
    latent.radios = [...choice.querySelectorAll("input")];
    for (const radio of latent.radios) {
      radio.name = `${latent.body.id}-decision`;
      radio.addEventListener("change", () => decide(latent, { decision: radio.value }));
    }
    row.addEventListener("click", (event) => {
      if (event.target === toggle || !event.target.closest("a, button, label, input")) open(latent, !isOpen(latent));
    });
    draw(latent);
  }

  // What the figures mean stands once on the page; an opened row repeats it beside its own.
  const meanings = new Map([...section.querySelectorAll("#latents-legend div")]
    .map((entry) => [entry.children[0].textContent, entry.children[1].textContent]));
  const isOpen = (latent) => latent.body.classList.contains("open");
  function open(latent, wanted) {
    latent.body.classList.toggle("open", wanted);
    latent.toggle.setAttribute("aria-expanded", String(wanted));
    if (!wanted || latent.area) return;
    for (const figure of latent.body.querySelectorAll(".meanings div")) {
      const meaning = document.createElement("span");
      meaning.textContent = meanings.get(figure.children[0].textContent) ?? "";
      figure.children[1].append(" ", meaning);
    }
    const note = find("note").content.cloneNode(true);
    latent.area = note.querySelector("textarea");
    latent.area.value = latent.note;
    latent.area.setAttribute("aria-label", `Your note on ${called(latent)}`);
    latent.area.addEventListener("input", () => decide(latent, { note: latent.area.value }));
    latent.body.querySelector(".read").append(note);
  }

  // A row as it stands now: switch, what it was before, the note for paper, the value that the column sorts by.
  function draw(latent) {
    const row = latent.body.rows[0];
    for (const radio of latent.radios) radio.checked = radio.value === latent.decision;
    latent.body.classList.toggle("moved", moved(latent));
    latent.body.classList.toggle("spared", latent.decision !== "ablate");
    const said = [];
    if (moved(latent)) said.push(latent.page.decision ? `was ${latent.page.decision}` : "was undecided");
    if (latent.note) said.push("note");
    row.querySelector(".was").textContent = said.join(" · ");
    row.querySelector(".choice").dataset.value = latent.decision;
    if (latent.shown) {
      latent.shown.textContent = latent.decision;
      latent.shown.className = `decision ${latent.decision === "ablate" ? "ablate" : "other"}`;
    }
    const note = latent.body.querySelector(".note");
    note.hidden = !latent.note;
    note.querySelector("span").textContent = latent.note;
    if (latent.area && latent.area !== document.activeElement) latent.area.value = latent.note;
  }

  function count() {
    const having = (test) => latents.filter(test).length;
    const undecided = having((latent) => !latent.decision);
    const said = [
      `${having((latent) => latent.decision === "ablate").toLocaleString("en")} ablated`,
      `${having((latent) => latent.decision && latent.decision !== "ablate").toLocaleString("en")} kept`,
      ...(undecided ? [`${undecided.toLocaleString("en")} undecided`] : []),
      `${having(moved).toLocaleString("en")} changed by you`,
    ];
    const notes = having((latent) => latent.note);
    if (notes) said.push(counted(notes, "note"));
    if (find("count").textContent !== said.join(", ")) find("count").textContent = said.join(", ");
    find("undo").disabled = !latents.some((latent) => moved(latent) || noted(latent));
  }

  function decide(latent, change) {
    Object.assign(latent, change);
    draw(latent);
    count();
    keep([latent]);
  }

  // What a file of decisions says of a latent: nothing, where the page says it already and no person did.
  function entry(latent) {
    if (!["ablate", "keep"].includes(latent.decision)) return null;
    if (!latent.person && !latent.note && !moved(latent)) return null;
    return { site: latent.site, latent: latent.latent, decision: latent.decision, note: latent.note };
  }

  function adopt(entries) {
    const given = new Map(entries.map((row) => [`${row.latent} ${row.site}`, row]));
    for (const latent of latents) {
      const row = given.get(`${latent.latent} ${latent.site}`);
      if (!row) continue;
      latent.decision = ["ablate", "keep"].includes(row.decision) ? row.decision : latent.decision;
      latent.note = String(row.note ?? "").slice(0, 2000);
      draw(latent);
    }
    count();
  }

  // Keeping. A browser may refuse storage; the page works without, and a download keeps what was decided.
  const waiting = new Set();
  let sending = false;
  function keep(changed) {
    if (token) {
      for (const latent of changed) waiting.add(latent);
      if (!sending) send();
      return;
    }
    try {
      const rows = latents.filter((latent) => moved(latent) || noted(latent))
        .map(({ site, latent, decision, note }) => ({ site, latent, decision, note }));
      if (rows.length) localStorage.setItem(key, JSON.stringify(rows));
      else localStorage.removeItem(key);
    } catch { /* nothing to do: see above */ }
  }
  const ask = (options) => fetch("decisions", { headers: { "X-Review-Token": token, "Content-Type": "application/json" }, ...options });
  async function send() {
    sending = true;
    while (waiting.size) {
      const batch = [...waiting].slice(0, 200);
      const changes = batch.map((latent) => entry(latent) ?? { site: latent.site, latent: latent.latent, decision: null });
      for (const latent of batch) waiting.delete(latent);
      find("saved").textContent = "Saving …";
      try {
        const answer = await ask({ method: "POST", body: JSON.stringify({ changes }) });
        if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
        find("saved").textContent = "Saved to decisions.json.";
      } catch (error) {
        for (const latent of batch) waiting.add(latent);
        find("saved").textContent = `Not saved (${error.message}). Is ssae-debias review still running? ` +
          "Your changes stay in this tab and are sent again; “Download decisions” saves them too.";
        await new Promise((resolve) => setTimeout(resolve, 3000));
      }
    }
    sending = false;
  }
  async function load() {
    try {
      if (token) {
        const answer = await ask({});
        if (!answer.ok) throw new Error(await answer.text());
        adopt((await answer.json()).decisions);
        find("saved").textContent = "Decisions are saved to decisions.json as you make them.";
      } else adopt(JSON.parse(localStorage.getItem(key) ?? "[]"));
    } catch (error) {
      if (token) find("saved").textContent = `The decisions made before could not be read: ${error.message}`;
    }
  }

  find("download").addEventListener("click", () => {
    const decisions = latents.map(entry).filter(Boolean);
    const content = { format: "ssae-debias decisions", version: 1, saes, decisions };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" }));
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
  find("undo").addEventListener("click", () => {
    const changed = latents.filter((latent) => moved(latent) || noted(latent));
    for (const latent of changed) {
      Object.assign(latent, latent.page);
      draw(latent);
    }
    count();
    keep(changed);
    filter();
    find("find").focus();
  });

  // Finding: each word must stand somewhere in a latent's site, number, name or tokens.
  function filter() {
    const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [site, decision] = [find("site").value, find("decision").value];
    let left = 0;
    for (const latent of latents) {
      const fits = words.every((word) => latent.words.includes(word)) && (!site || latent.site === site) &&
        (!decision || (decision === "changed" ? moved(latent) || noted(latent) : (latent.decision || "none") === decision));
      latent.body.hidden = !fits;
      left += fits;
    }
    find("shown").textContent = left < latents.length ? `${left.toLocaleString("en")} of ${counted(latents.length, "latent")} shown` : "";
    find("none").hidden = left > 0;
  }
  for (const id of ["find", "site", "decision"]) find(id).addEventListener("input", filter);

  // On a narrow screen most heads are hidden: the same orders by a menu.
  const heads = [...table.tHead.rows[0].cells];
  for (const [place, head] of heads.entries()) find("sort").append(new Option(head.textContent.trim(), place));
  find("sort").options[0].disabled = true;
  find("sort").addEventListener("input", () => sortBy(heads[find("sort").value]));

  // A link to a latent (from the nearest of another, or from outside) brings it into view, open.
  function show(hash) {
    const latent = latents.find((other) => `#${other.body.id}` === hash);
    if (!latent) return false;
    if (latent.body.hidden) {
      for (const id of ["find", "site", "decision"]) find(id).value = "";
      filter();
    }
    open(latent, true);
    latent.body.scrollIntoView({ block: "start" });
    latent.toggle.focus({ preventScroll: true });
    return true;
  }
  section.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#latent-"]');
    if (link && show(link.hash)) {
      event.preventDefault();
      history.replaceState(null, "", link.hash);
    }
  });
  addEventListener("hashchange", () => show(location.hash));

  // A narrow screen lays rows out as blocks, and a browser then forgets that this is a table.
  const roles = { table: "table", "thead, tbody": "rowgroup", tr: "row", "thead th": "columnheader", "tbody th": "rowheader", td: "cell" };
  for (const [selector, role] of Object.entries(roles))
    for (const element of section.querySelectorAll(selector)) element.role = role;

  tools.hidden = false;
  count();
  load().then(() => show(location.hash));
}
{
  const section = document.getElementById("latents");
  const tools = document.getElementById("latents-tools");
  if (section && tools) reviewLatents(section, tools);
}
