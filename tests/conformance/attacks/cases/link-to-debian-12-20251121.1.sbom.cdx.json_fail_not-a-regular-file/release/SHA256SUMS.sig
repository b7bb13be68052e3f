0D uJX0"АiмKЬiЮO0
сwОuU-ЊаI’…¶РЯv tлW&KМ≈™сп–Г№lZh1 I|тMФnМ1Xѕ£ъ∆