# The same questions asked of R: reads the tables that the test wrote, prints numbers as JSON.
# Packages that are absent give null, and their tests are skipped.
folder <- commandArgs(trailingOnly = TRUE)[1]
read <- function(name) read.csv(file.path(folder, name), stringsAsFactors = FALSE)
has <- function(name) suppressPackageStartupMessages(requireNamespace(name, quietly = TRUE))
out <- list()
d <- read("cross.csv")
d$site <- factor(d$site); d$sex <- relevel(factor(d$sex), "female"); d$group <- relevel(factor(d$group), "control")
m <- lm(y ~ splines::ns(age, df = 3) + sex + site + group + duration + edss + lesion + cortex, d)
out$lm <- as.list(coef(m))
out$classical <- as.list(sqrt(diag(vcov(m))))
keep <- c("(Intercept)", "sexmale", "grouppatient", "duration", "edss", "lesion", "cortex")
if (has("sandwich")) {
  hc3 <- sandwich::vcovHC(m, type = "HC3")
  t <- coef(m) / sqrt(diag(hc3))
  out$hc3 <- as.list(sqrt(diag(hc3)))
  out$hc3_p <- as.list(2 * pt(-abs(t), m$df.residual))
  if (has("car")) {
    names <- grep("ns\\(", names(coef(m)), value = TRUE)
    f <- car::linearHypothesis(m, names, vcov. = hc3)
    out$wald <- list(F = f$F[2], p = f$`Pr(>F)`[2])
  }
}
if (has("car")) out$gvif <- as.list(car::vif(m)[, 1])
out$dfbeta <- as.list(range(coef(m)["edss"] - dfbeta(m)[, "edss"]))
out$holm <- p.adjust(c(0.001, 0.04, 0.03, 0.2, 0.04), "holm")
out$bh <- p.adjust(c(0.001, 0.04, 0.03, 0.2, 0.04), "BH")
if (has("MASS")) {
  r <- MASS::rlm(y ~ splines::ns(age, df = 3) + sex + site + group + duration + edss + lesion + cortex, d,
                 psi = MASS::psi.huber, maxit = 500, acc = 1e-12)
  out$rlm <- as.list(coef(r)[keep])
  out$rlm_se <- as.list(summary(r)$coefficients[keep, "Std. Error"])
}
l <- read("long.csv")
l$site <- factor(l$site); l$sex <- relevel(factor(l$sex), "female"); l$group <- relevel(factor(l$group), "control")
if (has("lme4")) {
  tight <- lme4::lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12), calc.derivs = FALSE)
  g <- lme4::lmer(y ~ group * years + age + sex + site + (1 | participant), l, REML = TRUE, control = tight)
  out$lmer <- as.list(lme4::fixef(g))
  out$lmer_se <- as.list(sqrt(diag(as.matrix(vcov(g)))))
  v <- as.data.frame(lme4::VarCorr(g))
  out$lmer_var <- v$vcov
  if (has("lmerTest")) {
    h <- suppressPackageStartupMessages(lmerTest::lmer(y ~ group * years + age + sex + site + (1 | participant), l, REML = TRUE))
    out$satterthwaite <- as.list(coef(summary(h))[, "df"])
  }
  s <- suppressMessages(lme4::lmer(flat ~ group + age + (1 | site), d, REML = TRUE))
  out$singular <- lme4::isSingular(s)
  out$singular_coef <- as.list(lme4::fixef(s))
}
if (has("mice")) {
  p <- mice::pool.scalar(Q = c(1.2, 0.9, 1.5, 1.1), U = c(0.2, 0.25, 0.22, 0.19), n = 60, k = 5)
  out$pool <- list(qbar = p$qbar, t = p$t, df = p$df)
  i <- read("incomplete.csv")
  set.seed(1)
  draws <- suppressWarnings(mice::mice(i, m = 50, maxit = 10, method = "norm", printFlag = FALSE))
  s <- summary(mice::pool(with(draws, lm(y ~ a + b + c))))
  out$mice <- list(estimate = s$estimate, se = s$std.error)
}
if (has("sva")) {
  y <- as.matrix(read("combat_values.csv"))
  k <- as.matrix(read("combat_kept.csv"))
  c <- suppressMessages(sva::ComBat(t(y), batch = read("combat_sites.csv")$site, mod = cbind(1, k), par.prior = TRUE))
  out$combat <- unname(t(c))
}
cat(jsonlite::toJSON(out, digits = NA, auto_unbox = TRUE, null = "null"))
