// Format numbers. Nothing is computed here but digits.

const NONE = "not measurable";
const digits = (value, count) => String(Number(value.toPrecision(count)));
const whole = (value) => value.toLocaleString("en");

const FORMATS = {
  lift: (value) => `${digits(value, 3)}x`,
  share: (value) => `${digits(100 * value, 3)}%`,
  prob: (value) => digits(value, 3),
  bits: (value) => `${digits(value, 3)} bits`,
  shift: (value) => (value > 0 ? "+" : "") + digits(value, 3),
  restored: (value) => digits(value, 3),
  part: (value) => digits(value, 3),
  rank: whole,
  logits: (value) => (value > 0 ? "+" : "") + value.toFixed(2),
  ratio: (value) => (value > 0 ? "+" : "") + value.toFixed(2),
  points: (value) => (value > 0 ? "+" : "") + value.toFixed(0),
  nats: (value) => (value > 0 ? "+" : "") + value.toFixed(2),
};

function spell(value, unit) {
  if (value === null || value === undefined) return NONE;
  return (FORMATS[unit] || ((one) => (Number.isInteger(one) ? whole(one) : digits(one, 3))))(value);
}
