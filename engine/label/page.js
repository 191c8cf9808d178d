// The labelling page: shows what `show`, `next` and `label` answer, sends what is decided. Texts go in as text
// nodes. A pair is left only when the server has said that its decision is on the disk.
"use strict";

const $ = (id) => document.getElementById(id);
const sides = ["a", "b"];
let pair = null; // what is shown
let seen = []; // places that were decided here, in order
let busy = false;

async function call(path, body) {
    const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    let answer;
    try {
        answer = await fetch(path, options);
    } catch {
        throw new Error("attune does not answer: start it again and open the address that it prints. " +
            "Decisions up to the pair before this one are saved.");
    }
    const json = await answer.json().catch(() => ({ error: `attune answered ${answer.status}` }));
    if (!answer.ok)
        throw new Error(json.error);
    return json;
}

function put(parent, tag, text, kind) {
    const element = document.createElement(tag);
    element.className = kind;
    element.textContent = text;
    parent.append(element);
}

function putMessages(parent, messages, roles) {
    parent.replaceChildren();
    for (const m of messages) {
        if (roles)
            put(parent, "p", m.role, "role");
        put(parent, "p", m.content, "text");
    }
}

function putRatings(dimensions, before) {
    $("ratings").replaceChildren();
    $("rating_keys").hidden = dimensions.length === 0;
    for (const name of dimensions) {
        const set = document.createElement("fieldset");
        put(set, "legend", `${name} of the reply that you choose: 1 (low) to 5 (high)`, "");
        for (let i = 1; i <= 5; i++) {
            const label = document.createElement("label");
            const input = document.createElement("input");
            Object.assign(input, { type: "radio", name: `rating ${name}`, value: i });
            input.checked = before?.ratings?.[name] === i;
            label.append(input, ` ${i}`);
            set.append(label);
        }
        $("ratings").append(set);
    }
}

function putBefore(before) {
    const names = { a: $("choose_a"), b: $("choose_b"), tie: $("tie"), skip: $("skip") };
    for (const [choice, button] of Object.entries(names))
        button.classList.toggle("before", before?.choice === choice);
    $("before").hidden = !before;
    $("before").textContent = before ? `You decided before: ${names[before.choice].querySelector("span").textContent}. ` +
        "What you choose now takes its place." : "";
    $("reason").value = before?.reason ?? "";
}

function show(next) {
    pair = next;
    $("pair").hidden = Boolean(next.finished);
    $("end").hidden = !next.finished;
    $("progress").textContent = `${next.done} of ${next.total} decided`;
    $("bar").value = next.done / next.total;
    $("back").disabled = $("again").disabled = seen.length === 0;
    if (next.finished)
        return;
    $("question").textContent = next.review ? "Is A really the better reply?" : "Which reply is better?";
    if (next.review) {
        $("choose_a").querySelector("span").textContent = "Yes, A is better";
        $("choose_b").querySelector("span").textContent = "No, B is better";
        $("tie").querySelector("span").textContent = "Neither: leave the pair out";
    }
    putMessages($("prompt"), next.prompt, true);
    for (const side of sides) {
        const edit = next.before?.edit?.of === side ? next.before.edit.text : null;
        putMessages($(`reply_${side}`), next[side], next[side].length > 1);
        setRewriting(side, edit);
    }
    putRatings(next.dimensions, next.before);
    putBefore(next.before);
    window.scrollTo(0, 0);
    document.activeElement?.blur();
}

// text null: the reply is not being rewritten.
function setRewriting(side, text) {
    const edit = $(`edit_${side}`);
    edit.hidden = text === null;
    edit.value = text ?? "";
    if (text !== null)
        edit.focus();
}

function rewrite(side) {
    const other = side === "a" ? "b" : "a";
    if (!$(`edit_${side}`).hidden)
        return setRewriting(side, null);
    setRewriting(other, null);
    setRewriting(side, pair[side].at(-1)?.content ?? "");
}

function decided(choice) {
    const answer = { place: pair.place, choice, reason: $("reason").value.trim(), ratings: {} };
    for (const side of sides) {
        const edit = $(`edit_${side}`);
        if (choice === "skip" || edit.hidden || edit.value.trim() === "" || edit.value === pair[side].at(-1)?.content)
            continue;
        if (choice !== side)
            throw new Error(`You rewrote ${side.toUpperCase()}: choose it, or close its text first (Rewrite).`);
        answer.edit = { of: side, text: edit.value };
    }
    for (const input of $("ratings").querySelectorAll("input:checked"))
        answer.ratings[input.name.slice("rating ".length)] = Number(input.value);
    return answer;
}

// The first dimension that has none yet, as the keys 1 to 5 give it.
function rate(value) {
    const open = [...$("ratings").children].find((set) => !set.querySelector("input:checked"));
    if (open)
        open.querySelector(`input[value="${value}"]`).checked = true;
}

// One request at a time: a key that is held down decides nothing twice.
async function act(work) {
    if (busy)
        return;
    busy = true;
    try {
        await work();
        $("problem").hidden = true;
    } catch (error) {
        $("problem").textContent = error.message;
        $("problem").hidden = false;
    }
    busy = false;
}

const decide = (choice) => act(async () => {
    const answer = decided(choice);
    const next = await call("label", answer);
    seen = seen.filter((place) => place !== answer.place).concat(answer.place);
    show(next);
});

const back = () => act(async () => {
    if (seen.length === 0)
        return;
    const i = pair.finished ? seen.length - 1 : seen.indexOf(pair.place) === -1 ? seen.length - 1 :
        Math.max(0, seen.indexOf(pair.place) - 1);
    show(await call("show", { place: seen[i] }));
});

const finish = () => act(async () => {
    await call("finish", {});
    $("end").hidden = true;
    $("bye").hidden = false;
});

const keys = {
    a: () => decide("a"), b: () => decide("b"), t: () => decide("tie"), s: () => decide("skip"), u: back,
    A: () => rewrite("a"), B: () => rewrite("b"), r: () => $("reason").focus(),
};
for (const value of [1, 2, 3, 4, 5])
    keys[value] = () => rate(value);

document.addEventListener("keydown", (event) => {
    const typing = ["TEXTAREA", "INPUT"].includes(event.target.tagName) && event.target.type !== "radio";
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy)
        return;
    if (event.key === "Escape")
        return event.target.blur();
    if (typing || !pair)
        return;
    if (pair.finished) {
        if (event.key === "Enter" && event.target.tagName !== "BUTTON")
            finish();
        if (event.key === "u")
            back();
        return;
    }
    if (keys[event.key]) {
        event.preventDefault();
        keys[event.key]();
    }
});
for (const side of sides) {
    $(`choose_${side}`).onclick = () => decide(side);
    $(`rewrite_${side}`).onclick = () => rewrite(side);
}
$("tie").onclick = () => decide("tie");
$("skip").onclick = () => decide("skip");
$("back").onclick = $("again").onclick = back;
$("finish").onclick = finish;
act(async () => show(await call("next")));
